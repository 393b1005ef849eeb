//! Requests with an `Idempotency-Key` of which hooks have to say yet whether they may be carried out.
//!
//! Their addresses are held, and nothing of them has reached the writer. The same request that comes
//! again meanwhile, and meets those addresses, must not be told no: it waits until the first is decided.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::store::change::RequestKey;

/// How many there are of each.
#[derive(Debug, Default)]
pub struct Undecided(watch::Sender<HashMap<RequestKey, usize>>);

/// Until this is dropped, a request is undecided.
#[derive(Debug)]
pub struct Deciding {
    undecided: Arc<Undecided>,
    request: RequestKey,
}

impl Undecided {
    pub fn begin(self: &Arc<Self>, request: RequestKey) -> Deciding {
        self.0.send_modify(|requests| *requests.entry(request.clone()).or_default() += 1);
        Deciding { undecided: Arc::clone(self), request }
    }

    /// Waits until none of these is undecided; whether any was. Hooks have so long to decide as
    /// [`HOOKS_WAIT_MAX`] says.
    ///
    /// [`HOOKS_WAIT_MAX`]: crate::limits::HOOKS_WAIT_MAX
    pub async fn decided(&self, request: &RequestKey) -> bool {
        let mut requests = self.0.subscribe();
        let mut waited = false;
        let is_decided = |requests: &HashMap<RequestKey, usize>| {
            let is_decided = !requests.contains_key(request);
            waited |= !is_decided;
            is_decided
        };
        // It cannot be closed: the sender is here.
        let _ = requests.wait_for(is_decided).await;
        waited
    }
}

impl Drop for Deciding {
    fn drop(&mut self) {
        self.undecided.0.send_modify(|requests| {
            if let Some(count) = requests.get_mut(&self.request) {
                *count -= 1;
                if *count == 0 {
                    requests.remove(&self.request);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn a_request_is_decided_when_all_that_are_the_same_are() {
        let key = |key: &str| RequestKey { key: key.into(), fingerprint: [0; 32] };
        let undecided = Arc::new(Undecided::default());
        let [first, second, _other] =
            ["a", "a", "b"].map(|name| Undecided::begin(&undecided, key(name)));
        let (a, mut context) = (key("a"), Context::from_waker(Waker::noop()));
        let mut decided = pin!(undecided.decided(&a));
        assert_eq!(decided.as_mut().poll(&mut context), Poll::Pending);
        drop(first);
        assert_eq!(decided.as_mut().poll(&mut context), Poll::Pending);
        drop(second);
        assert_eq!(decided.poll(&mut context), Poll::Ready(true));
        assert_eq!(pin!(undecided.decided(&a)).poll(&mut context), Poll::Ready(false));
    }
}
