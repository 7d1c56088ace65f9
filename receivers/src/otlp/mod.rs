//! `otlp`: metrics from whoever speaks OTLP, over gRPC and HTTP.
//!
//! A request's bytes go into the pipeline as they are; nothing is decoded into structs. OK is said when the data is as safe
//! as `ack` says, and not before. Everything a stranger may ask for has a limit that stands before the memory or the work
//! it protects; whoever meets one hears by OTLP's rules whether to come again. The receiver never alters a point.

mod body;
mod config;
mod counts;
mod grpc;
mod http;
mod intake;
mod server;
mod watch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue};
use phoenix_pipeline::admission::Budget;
use phoenix_pipeline::auth::ServerAuth;
use phoenix_pipeline::config::Value;
use phoenix_pipeline::{
    Ack, BoxFuture, BuildError, Instrument, Level, Observed, Outlet, Receiver, ReceiverFactory, Site, Stability,
};
use phoenix_telemetry::Number;
use phoenix_transport::coding::Coding;
use phoenix_transport::tls::{Acceptor, Alpn, ServerTlsSettings};

use body::Pace;
pub use config::{
    Admission, Auth, Config, Cors, EnforcementPolicy, Grpc, Http, Keepalive, Protocols, ServerParameters, Transport,
};
use counts::Counts;
use intake::Intake;
use server::{Front, Http2, Server, Service, Socket};
use watch::Patience;

/// The receiver's row in the table.
pub const FACTORY: ReceiverFactory =
    ReceiverFactory::new::<Config>("otlp", "Takes OTLP over gRPC and HTTP", Stability::Beta, build);

static HELD: Instrument = Instrument {
    name: "phoenix_receiver_held_bytes",
    unit: "By",
    description: "Bytes of requests on their way in, from the wire until they are as safe as was promised.",
    level: Level::Basic,
};
static ROOM: Instrument = Instrument {
    name: "phoenix_receiver_held_limit_bytes",
    unit: "By",
    description: "The most bytes of requests that may be on their way in.",
    level: Level::Normal,
};

/// A time of zero means "never" in the Collector's settings.
fn nonzero(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

fn build(value: &Value, site: &Site) -> Result<Box<dyn Receiver>, BuildError> {
    let config: Config = site.settings(value)?;
    let room = match config.admission.limit_mib {
        0 => site.admission.share(usize::MAX),
        mib => site.admission.share(mib as usize * (1 << 20)),
    };
    let mut fronts = Vec::new();
    if let Some(grpc) = &config.protocols.grpc {
        let (endpoint, transport) = (&grpc.endpoint, grpc.transport);
        let tls = acceptor(grpc.tls.as_ref(), Alpn::Http2, "protocols.grpc.tls", &config, site)?;
        let auth = authenticator(grpc.auth.as_ref(), site)?;
        let socket = listen(endpoint, transport, "grpc", site)?;
        without_effect(site, "grpc", grpc.without_effect(), grpc.tls.as_ref());
        fronts.push(Prepared { which: Which::Grpc(grpc.clone()), tls, auth, socket });
    }
    if let Some(http) = &config.protocols.http {
        let tls = acceptor(http.tls.as_ref(), Alpn::Http2OrHttp1, "protocols.http.tls", &config, site)?;
        let auth = authenticator(http.auth.as_ref(), site)?;
        let socket = listen(&http.endpoint, http.transport, "http", site)?;
        without_effect(site, "http", http.without_effect(), http.tls.as_ref());
        fronts.push(Prepared { which: Which::Http(http.clone()), tls, auth, socket });
    }
    Ok(Box::new(Otlp { fronts, room, ack: config.ack, admission: config.admission, site: site.clone(), server: None }))
}

/// A transport that is ready to be opened.
struct Prepared {
    which: Which,
    tls: Option<Acceptor>,
    auth: Option<Arc<dyn ServerAuth>>,
    socket: Socket,
}

enum Which {
    Grpc(Grpc),
    Http(Http),
}

fn acceptor(
    tls: Option<&ServerTlsSettings>,
    alpn: Alpn,
    key: &str,
    config: &Config,
    site: &Site,
) -> Result<Option<Acceptor>, BuildError> {
    let Some(tls) = tls else { return Ok(None) };
    Ok(Some(Acceptor::new(tls, alpn, key, site)?.handshake_timeout(config.admission.handshake_timeout)))
}

fn authenticator(auth: Option<&Auth>, site: &Site) -> Result<Option<Arc<dyn ServerAuth>>, BuildError> {
    let named = auth.map(|auth| auth.authenticator.as_str()).filter(|id| !id.is_empty());
    Ok(named.map(|id| site.authenticators.server(id)).transpose()?)
}

fn listen(endpoint: &str, transport: Transport, protocol: &str, site: &Site) -> Result<Socket, BuildError> {
    let key = format!("receivers::{}::protocols::{protocol}::endpoint", site.id);
    match transport {
        Transport::Unix => site.listeners.bind_unix(Path::new(endpoint), &key).map(Socket::Unix),
        _ => {
            let listener = site.listeners.bind(endpoint, &key)?;
            tracing::info!(receiver = %site.id, protocol, address = %listener.address(), "takes OTLP");
            Ok(Socket::Tcp(listener))
        }
    }
}

fn without_effect(site: &Site, protocol: &str, mut keys: Vec<&'static str>, tls: Option<&ServerTlsSettings>) {
    keys.extend(tls.map(ServerTlsSettings::without_effect).into_iter().flatten());
    if !keys.is_empty() {
        tracing::info!(receiver = %site.id, protocol, "accepted, without effect here: {}", keys.join(", "));
    }
}

/// The receiver: its sockets are open when it is built, and served when it is started.
struct Otlp {
    fronts: Vec<Prepared>,
    room: Budget,
    ack: Option<Ack>,
    admission: Admission,
    site: Site,
    server: Option<Server>,
}

impl Otlp {
    /// Places for connections of one transport.
    fn places(&self, protocol: &str) -> Budget {
        let wanted = self.admission.max_connections;
        let places = self.site.connections.share(wanted);
        if places.limit() < wanted {
            tracing::warn!(
                receiver = %self.site.id, protocol, max_connections = wanted, places = places.limit(),
                "the limit of open files (RLIMIT_NOFILE) is low: all senders together get a quarter of it"
            );
        }
        places
    }

    fn front(&self, prepared: Prepared, outlet: &Outlet) -> Result<(Front, Socket), BuildError> {
        let Prepared { which, tls, auth, socket } = prepared;
        let (metrics, id) = (&self.site.metrics, self.site.id.as_str());
        let protocol = match &which {
            Which::Grpc(_) => "grpc",
            Which::Http(_) => "http",
        };
        let intake = Intake::new(outlet.for_transport(metrics, id, protocol), self.ack);
        let stall = self.admission.stall_timeout;
        let (service, idle, http1_keep_alive, http2) = match &which {
            Which::Grpc(grpc) => {
                let parameters = &grpc.keepalive.server_parameters;
                let service =
                    grpc::Service { intake, limit: grpc.largest(), pace: Pace { stall, whole: Duration::ZERO } };
                let http2 = Http2 {
                    max_streams: if grpc.max_concurrent_streams == 0 { 100 } else { grpc.max_concurrent_streams },
                    ping: nonzero(parameters.time),
                    pong: parameters.timeout,
                    age: nonzero(parameters.max_connection_age),
                    grace: nonzero(parameters.max_connection_age_grace),
                };
                (Service::Grpc(service), parameters.max_connection_idle, true, http2)
            }
            Which::Http(http) => {
                let mut headers = HeaderMap::new();
                for (name, value) in http.response_headers.iter() {
                    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
                    headers.insert(name, HeaderValue::try_from(value.reveal()).map_err(|error| error.to_string())?);
                }
                let service = http::Service {
                    intake,
                    path: http.metrics_url_path.clone(),
                    limit: http.largest(),
                    pace: Pace { stall, whole: http.read_timeout },
                    codings: http.compression_algorithms.iter().filter_map(|name| Coding::named(name)).collect(),
                    headers,
                };
                let http2 = Http2 { max_streams: 100, ping: None, pong: Duration::ZERO, age: None, grace: None };
                (Service::Http(service), http.idle_timeout, http.keep_alives_enabled, http2)
            }
        };
        let percentage = self.admission.connection_percentage as usize;
        let front = Front {
            service,
            tls,
            auth,
            room: self.room.clone(),
            share: self.room.limit() / 100 * percentage,
            places: self.places(protocol),
            patience: Patience { first: self.admission.handshake_timeout, idle },
            http1_keep_alive,
            http2,
            counts: Counts::new(metrics, id, protocol),
        };
        Ok((front, socket))
    }
}

impl Receiver for Otlp {
    fn start(&mut self, outlet: Outlet) -> Result<(), BuildError> {
        let server = Server::new();
        for prepared in std::mem::take(&mut self.fronts) {
            let (front, socket) = self.front(prepared, &outlet)?;
            let started = server.listen(&self.site.runtime, front, socket);
            started.map_err(|error| format!("cannot take connections: {error}"))?;
        }
        let labels = [("receiver", self.site.id.as_str())];
        let (used, room) = (self.room.clone(), self.room.limit());
        let bytes = |bytes: usize| Number::Int(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.site.metrics.observe(&HELD, &labels, Observed::Gauge, move || bytes(used.used()));
        self.site.metrics.observe(&ROOM, &labels, Observed::Gauge, move || bytes(room));
        self.site.status.ok();
        self.server = Some(server);
        Ok(())
    }

    fn shutdown(&mut self) -> BoxFuture<'_, ()> {
        self.fronts.clear();
        let server = self.server.take();
        Box::pin(async move {
            if let Some(server) = server {
                server.stop().await;
            }
        })
    }

    fn ack(&self) -> Option<Ack> {
        self.ack
    }
}
