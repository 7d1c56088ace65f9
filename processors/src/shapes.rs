//! What is found out about a scope, once for all scopes of one shape in a batch.
//!
//! To look at every point of every scope costs more than all else a stage does with a host that goes on as before. Scopes
//! that have lost points, and scopes unlike any other, are looked at one by one.

use phoenix_telemetry::{Point, Scope};

use crate::entity::mix;

/// The findings of one batch.
pub(crate) struct Shapes<T> {
    /// By shape.
    known: Vec<Option<T>>,
    /// Of the last scope that has none in common with others.
    single: Option<T>,
}

impl<T> Default for Shapes<T> {
    fn default() -> Self {
        Shapes { known: Vec::new(), single: None }
    }
}

impl<T> Shapes<T> {
    /// Forgets the batch, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.known.clear();
    }

    /// What `look` finds out about a scope: it may tell nothing of times and values.
    #[inline]
    pub(crate) fn of<'s>(&mut self, scope: Scope<'s>, look: impl FnOnce(Scope<'s>) -> T) -> &T {
        let Shapes { known, single } = self;
        let place = match place_of(known, scope) {
            Some(place) => place,
            None => {
                *single = None;
                single
            }
        };
        place.get_or_insert_with(|| look(scope))
    }

    /// The place of what is found out about a scope and all that are as it is; `None` if it is unlike any other.
    pub(crate) fn shared(&mut self, scope: Scope<'_>) -> Option<&mut Option<T>> {
        place_of(&mut self.known, scope)
    }

    /// What was found out about scopes that others are as.
    pub(crate) fn into_shared(self) -> impl Iterator<Item = T> {
        self.known.into_iter().flatten()
    }
}

#[inline]
fn place_of<'k, T>(known: &'k mut Vec<Option<T>>, scope: Scope<'_>) -> Option<&'k mut Option<T>> {
    let shape = scope.shape().filter(|_| scope.is_whole())?;
    if known.len() <= shape {
        known.resize_with(shape + 1, || None);
    }
    known.get_mut(shape)
}

/// The points of a scope that hold a value.
pub(crate) fn live(scope: Scope<'_>) -> impl Iterator<Item = Point<'_>> {
    scope.points().flatten().filter(|point| !point.no_recorded_value())
}

/// The points of a scope that hold a value: how many, and a hash of their series without the resource, whatever their order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Content {
    pub(crate) live: u64,
    pub(crate) hash: u64,
}

impl Content {
    /// That of a scope, found point by point.
    pub(crate) fn of(scope: Scope<'_>) -> Content {
        let mut content = Content::default();
        for point in live(scope) {
            content.live += 1;
            content.hash = content.hash.wrapping_add(mix(point.metric().hash(), point.hash()));
        }
        content
    }

    /// Both together.
    pub(crate) fn and(self, other: Content) -> Content {
        Content { live: self.live + other.live, hash: self.hash.wrapping_add(other.hash) }
    }

    /// As the content of a resource of this hash.
    pub(crate) fn within(self, resource: u64) -> u64 {
        mix(resource, mix(self.hash, self.live))
    }
}
