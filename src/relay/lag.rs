//! How far behind a relay is, whoever has it and whether or not anything can be published.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::sleep;

use crate::clock::Clock;
use crate::limits::RELAY_LAG_EVERY;
use crate::store::Store;
use crate::store::error::Fault;
use crate::store::query::EventQuery;
use crate::telemetry::{Lag, Metrics};

use super::cursor::Position;

/// Tells the metrics, again and again. A store that does not answer leaves what was told last.
pub async fn watch(
    store: Arc<dyn Store>,
    relay: &'static str,
    published: Position,
    clock: Clock,
    metrics: Arc<Metrics>,
) {
    loop {
        match lag(store.as_ref(), relay, &published, &clock).await {
            Ok(lag) => metrics.relays().lag(relay, lag),
            Err(fault) => {
                tracing::debug!(relay.bus = relay, error = %fault, "how far behind it is cannot be read");
            }
        }
        sleep(RELAY_LAG_EVERY).await;
    }
}

/// Stored events that are not published, and the age of the oldest; costs three lookups. Positions have
/// no gaps but in front, where events were forgotten.
async fn lag(
    store: &dyn Store,
    relay: &str,
    published: &Position,
    clock: &Clock,
) -> Result<Lag, Fault> {
    // Here more may be published than is noted, and elsewhere more than is known here.
    let noted = store.relay_position(relay).await?;
    let after = noted.max(published.load(Ordering::Acquire));
    let first = EventQuery { after, limit: 1, ..EventQuery::default() };
    let page = store.events(first).await?;
    let Some(oldest) = page.items.first() else {
        return Ok(Lag { position: after, ..Lag::default() });
    };
    let end = store.log_end().await?;
    let age = clock.now().duration_since(oldest.at).as_secs_f64();
    let events = (end + 1).saturating_sub(oldest.position);
    Ok(Lag { position: after, events, seconds: age.max(0.0) })
}
