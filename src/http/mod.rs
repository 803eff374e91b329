//! The routes, and what guards each.
//!
//! | route | guarded by |
//! | --- | --- |
//! | `/incoming-call`, `/after-stream/{ticket}`, `/stream-status`, `/call-status` | Twilio's signature |
//! | `/media-stream/{ticket}` | the signature when there is one, then the ticket; of another machine, both |
//! | `/`, `/healthz`, `/readyz` | nothing: they show nothing private |
//! | `/metrics` | a listener of its own, or a Bearer token |

mod guard;
mod listen;
mod replay;
mod status;
mod stream;
mod upgrade;
mod voice;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{any, get, post};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;

use crate::link::peer::Peers;
use crate::reload::Standing;
use crate::secret::Secret;
use crate::session::Switchboard;
use crate::wire::twilio::signature::Keys;

pub use guard::Refusals;
pub use listen::{Peer, Streaming, listen};
pub use replay::elsewhere_at as elsewhere;
pub use status::bearer;

/// The largest body that is read. Twilio's webhooks have about 1 KiB.
const MAX_BODY: usize = 64 * 1024;

/// What every handler uses.
pub struct App {
    pub switchboard: Arc<Switchboard>,
    /// The state of the roster in force, for `/readyz`.
    pub standing: watch::Receiver<Standing>,
    pub keys: Keys,
    /// The address that Twilio calls, without a trailing slash.
    pub public_url: String,
    /// The address that Fly gives the app. A call that began under it goes on under it.
    pub fly_url: Option<String>,
    /// Whether the Fly proxy is in front, which can send a ring to another machine.
    pub on_fly: bool,
    /// The other machines, if they can be asked.
    pub peers: Option<Peers>,
    pub metrics: Option<PrometheusHandle>,
    /// With it, `/metrics` answers on the main listener.
    pub metrics_token: Option<Secret>,
    /// Those that are not logged yet.
    pub refusals: Refusals,
}

impl App {
    /// Sends a request on to another machine, if there may be one that did not have it yet; see [`replay::on`].
    fn elsewhere(&self, headers: &HeaderMap, patience: Duration) -> Option<Response> {
        self.on_fly.then(|| replay::on(headers, patience)).flatten()
    }

    /// Does the same once, for a signed request that this machine does not understand.
    fn elsewhere_once(&self, headers: &HeaderMap) -> Option<Response> {
        (self.on_fly && !replay::was_tried(headers)).then(replay::elsewhere)
    }

    /// The addresses that Twilio may use: ours, and on Fly the app's, which a machine with other settings may have
    /// given it.
    fn signed_urls(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.public_url.as_str()).chain(self.fly_url.as_deref())
    }
}

/// Every route of the main listener.
pub fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/incoming-call", post(voice::incoming_call).get(voice::incoming_call))
        .route("/media-stream/{ticket}", any(stream::media_stream))
        .route("/media-stream/{ticket}/", any(stream::media_stream))
        .route("/after-stream/{ticket}", post(voice::after_stream).get(voice::after_stream))
        .route("/stream-status", post(status::stream_status).get(status::stream_status))
        .route("/call-status", post(status::call_status).get(status::call_status))
        .route("/", get(status::index))
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz))
        .route("/metrics", get(status::metrics))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(app)
}

/// The one route of the metrics' own listener.
pub fn metrics_routes(app: Arc<App>) -> Router {
    Router::new().route("/metrics", get(status::open_metrics)).with_state(app)
}
