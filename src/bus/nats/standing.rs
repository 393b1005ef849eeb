//! A connection to NATS that comes back, for those who are asked and keep nothing in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_nats::{Client, Event};

use super::connect::{connect, options, servers};
use super::settings::NatsSettings;
use crate::bus::BusError;
use crate::bus::servers::Moment;
use crate::limits::{NATS_API_QUEUE_MAX, NATS_API_RECONNECTS_MAX, NATS_API_UNSENT_MAX};

/// Connects to one of the servers. A connection that is lost is made again, with its subscriptions, and
/// what waited to be sent is sent then; the log says once that it is lost, and once that it is back.
///
/// It ends only when a server refuses the login: then the subscriptions end, and one connects anew, which
/// reads the files of the login again.
///
/// It knows no other servers than it was made with: when a catalogue names others, which is told by the
/// moment of its own, one connects anew as well.
///
/// # Errors
/// [`BusError::Away`], with nothing of a password or token.
pub async fn connect_standing(
    settings: &NatsSettings,
) -> Result<(Client, Option<Moment>), BusError> {
    let servers = servers(settings)?;
    let is_lost = Arc::new(AtomicBool::new(false));
    let mut options = options(settings)
        .await?
        .subscription_capacity(NATS_API_QUEUE_MAX)
        .client_capacity(NATS_API_UNSENT_MAX)
        .event_callback(move |event| {
            let is_lost = Arc::clone(&is_lost);
            async move { tell(&event, &is_lost) }
        });
    if servers.moment.is_some() {
        // One whose servers are gone ends by itself, some time after others have taken its place.
        options = options.max_reconnects(NATS_API_RECONNECTS_MAX.max(servers.urls.len()));
    }
    Ok((connect(&servers.urls, options).await?, servers.moment))
}

fn tell(event: &Event, is_lost: &AtomicBool) {
    match event {
        Event::Disconnected if !is_lost.swap(true, Ordering::Relaxed) => {
            tracing::warn!("the connection to NATS is lost; trying again");
        }
        Event::Connected if is_lost.swap(false, Ordering::Relaxed) => {
            tracing::info!("NATS is back");
        }
        Event::ServerError(error) => tracing::warn!("NATS: {error}"),
        Event::SlowConsumer(_) => {
            tracing::warn!("NATS brings requests faster than they are taken; some are lost");
        }
        _ => {}
    }
}
