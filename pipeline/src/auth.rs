//! Who may send, and who is sent to: credentials as an extension keeps them and as exporters and receivers use them.
//!
//! An extension (`bearertokenauth`) offers an [`Authenticator`]; whoever names it in `auth.authenticator` gets a handle from
//! the register of [`Authenticators`] and asks it at every request, so that credentials may change at any time, be it that
//! their file rotates or that the extension is replaced by a reload. Nothing here knows a secret.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use http::HeaderMap;

use crate::ComponentId;

/// Adds credentials to requests.
pub trait ClientAuth: Send + Sync {
    /// Sets, changes or takes out headers of one request. Called for every attempt: must be quick.
    fn apply(&self, headers: &mut HeaderMap);
}

/// Decides who is let in.
pub trait ServerAuth: Send + Sync {
    /// Checks the headers (gRPC: metadata) of one request, before its body is read. Must be quick.
    ///
    /// # Errors
    /// The request is to be answered with 401 or UNAUTHENTICATED.
    fn check(&self, headers: &HeaderMap) -> Result<(), Unauthenticated>;
}

/// A request without valid credentials. Says what was missing, never what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unauthenticated(pub &'static str);

/// What an extension offers.
#[derive(Clone, Default)]
pub struct Authenticator {
    /// For exporters.
    pub client: Option<Arc<dyn ClientAuth>>,
    /// For receivers.
    pub server: Option<Arc<dyn ServerAuth>>,
}

type Slot = ArcSwap<Authenticator>;

/// The register of all authenticators by extension id. Cheap to clone; all clones are one register.
#[derive(Clone, Default)]
pub struct Authenticators(Arc<Mutex<BTreeMap<ComponentId, Arc<Slot>>>>);

impl Authenticators {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ComponentId, Arc<Slot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts these in place of all that were there. Handles to an id that stays use the new one from now on; those to an
    /// id that goes keep what they have, for an exporter that is still draining.
    pub fn publish(&self, all: BTreeMap<ComponentId, Authenticator>) {
        let mut slots = self.lock();
        slots.retain(|id, _| all.contains_key(id));
        for (id, authenticator) in all {
            let authenticator = Arc::new(authenticator);
            match slots.get(&id) {
                Some(slot) => slot.store(authenticator),
                None => drop(slots.insert(id, Arc::new(Slot::new(authenticator)))),
            }
        }
    }

    /// What was published last, to go back to.
    pub fn published(&self) -> BTreeMap<ComponentId, Authenticator> {
        self.lock().iter().map(|(id, slot)| (id.clone(), Authenticator::clone(&slot.load()))).collect()
    }

    /// What an exporter's `auth.authenticator` names.
    ///
    /// # Errors
    /// There is no such extension, or it is none for exporters.
    pub fn client(&self, id: &str) -> Result<Arc<dyn ClientAuth>, String> {
        let slot = self.slot(id)?;
        match slot.load().client {
            Some(_) => Ok(slot.clone() as Arc<dyn ClientAuth>),
            None => Err(format!("auth.authenticator: {id} checks requests and has no credentials to send")),
        }
    }

    /// What a receiver's `auth.authenticator` names.
    ///
    /// # Errors
    /// There is no such extension, or it is none for receivers.
    pub fn server(&self, id: &str) -> Result<Arc<dyn ServerAuth>, String> {
        let slot = self.slot(id)?;
        match slot.load().server {
            Some(_) => Ok(slot.clone() as Arc<dyn ServerAuth>),
            None => Err(format!("auth.authenticator: {id} sends credentials and cannot check requests")),
        }
    }

    fn slot(&self, id: &str) -> Result<Arc<Slot>, String> {
        let slot = self.lock().get(&ComponentId::new(id)).cloned();
        slot.ok_or_else(|| {
            format!("auth.authenticator: no authenticator {id} is running; name it in service.extensions")
        })
    }
}

impl ClientAuth for Slot {
    fn apply(&self, headers: &mut HeaderMap) {
        if let Some(client) = &self.load().client {
            client.apply(headers);
        }
    }
}

impl ServerAuth for Slot {
    fn check(&self, headers: &HeaderMap) -> Result<(), Unauthenticated> {
        match &self.load().server {
            Some(server) => server.check(headers),
            None => Err(Unauthenticated("nobody can check this request")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Name(&'static str);

    impl ClientAuth for Name {
        fn apply(&self, headers: &mut HeaderMap) {
            headers.insert("name", http::HeaderValue::from_static(self.0));
        }
    }

    impl ServerAuth for Name {
        fn check(&self, headers: &HeaderMap) -> Result<(), Unauthenticated> {
            let right = headers.get("name").is_some_and(|name| name == self.0);
            right.then_some(()).ok_or(Unauthenticated("wrong name"))
        }
    }

    fn both(name: &'static str) -> Authenticator {
        Authenticator { client: Some(Arc::new(Name(name))), server: Some(Arc::new(Name(name))) }
    }

    #[test]
    fn handles_follow_what_is_published() {
        let register = Authenticators::default();
        let id = ComponentId::new("bearertokenauth/eu");
        assert!(register.client("bearertokenauth/eu").err().unwrap().contains("service.extensions"));
        register.publish([(id.clone(), both("old"))].into());
        let (client, server) = (register.client(id.as_str()).unwrap(), register.server(id.as_str()).unwrap());
        let headers = || {
            let mut headers = HeaderMap::new();
            client.apply(&mut headers);
            headers
        };
        assert_eq!(server.check(&headers()), Ok(()));
        assert!(server.check(&HeaderMap::new()).is_err());
        let before = register.published();
        let old = headers();
        register.publish([(id.clone(), both("new"))].into());
        assert_eq!((server.check(&headers()), server.check(&old)), (Ok(()), Err(Unauthenticated("wrong name"))));
        register.publish(before);
        assert_eq!(headers(), old, "a change that failed is taken back");
        register.publish(BTreeMap::new());
        assert_eq!(headers(), old, "who drains keeps the credentials");
        assert!(register.client(id.as_str()).is_err());
    }

    #[test]
    fn an_authenticator_has_its_side() {
        let register = Authenticators::default();
        let client = Authenticator { server: None, ..both("a") };
        register.publish([(ComponentId::new("basicauth"), client)].into());
        assert!(register.client("basicauth").is_ok());
        assert!(register.server("basicauth").err().unwrap().contains("cannot check requests"));
    }
}
