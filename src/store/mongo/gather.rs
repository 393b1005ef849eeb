//! Reads by key, gathered: what is asked for while some reads run is asked for with the next one.
//!
//! A read costs the server and the driver far more than a key in it does, and a burst reads by key a
//! hundred times at once: of releases, of requests with an `Idempotency-Key`, or on a subnet whose
//! actor does not run yet. As in the writer there is no waiting window: a lone read goes at once.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::limits::{
    STORE_GATHERED_KEYS_MAX, STORE_GATHERED_READS_MAX, STORE_GATHERED_WAITING_MAX,
    STORE_READ_WAIT_MAX,
};

use super::faults::ReadError;

/// What was found of the keys asked for, or why nothing is known.
type Fetched<K, V> = Result<HashMap<K, V>, Arc<ReadError>>;
type Fetch<K, V> =
    Box<dyn Fn(Vec<K>) -> Pin<Box<dyn Future<Output = Fetched<K, V>> + Send>> + Send + Sync>;
type Asked<K, V> = (K, oneshot::Sender<Result<Option<V>, Arc<ReadError>>>);

/// Reads documents of one kind by key.
pub struct Gather<K, V> {
    queue: mpsc::Sender<Asked<K, V>>,
}

impl<K, V> Gather<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// `fetch` reads some keys at once, each named once. Must be called on a tokio runtime.
    pub fn new<F>(fetch: impl Fn(Vec<K>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<HashMap<K, V>, ReadError>> + Send + 'static,
    {
        let (queue, asked) = mpsc::channel(STORE_GATHERED_WAITING_MAX);
        let fetch: Fetch<K, V> = Box::new(move |keys| {
            let fetched = fetch(keys);
            Box::pin(async move {
                let fetched = timeout(STORE_READ_WAIT_MAX, fetched).await;
                fetched.unwrap_or(Err(ReadError::TimedOut(STORE_READ_WAIT_MAX))).map_err(Arc::new)
            })
        });
        tokio::spawn(gather(asked, Arc::new(fetch)));
        Self { queue }
    }

    /// The document with this key, as it is when this is called or later.
    ///
    /// # Errors
    /// [`ReadError`], shared with the others who asked at the same time.
    pub async fn get(&self, key: K) -> Result<Option<V>, ReadError> {
        let (sender, answer) = oneshot::channel();
        let gone = || ReadError::TimedOut(STORE_READ_WAIT_MAX);
        self.queue.send((key, sender)).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(Arc::new(gone()))).map_err(ReadError::Shared)
    }
}

async fn gather<K, V>(mut asked: mpsc::Receiver<Asked<K, V>>, fetch: Arc<Fetch<K, V>>)
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let running = Arc::new(Semaphore::new(STORE_GATHERED_READS_MAX));
    let mut some = Vec::new();
    // The semaphore is never closed.
    while let Ok(permit) = Arc::clone(&running).acquire_owned().await {
        if asked.recv_many(&mut some, STORE_GATHERED_KEYS_MAX).await == 0 {
            return;
        }
        let (fetch, some) = (Arc::clone(&fetch), std::mem::take(&mut some));
        tokio::spawn(async move {
            let keys: HashSet<K> = some.iter().map(|(key, _)| key.clone()).collect();
            let fetched = fetch(keys.into_iter().collect()).await;
            drop(permit);
            for (key, answer) in some {
                // Who no longer waits need not be told.
                let _ = answer.send(match &fetched {
                    Ok(found) => Ok(found.get(&key).cloned()),
                    Err(error) => Err(Arc::clone(error)),
                });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn what_comes_while_reads_run_is_read_at_once() {
        let (reads, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (counted, gate) = (Arc::clone(&reads), Arc::clone(&go));
        let gather = Arc::new(Gather::new(move |keys: Vec<usize>| {
            counted.fetch_add(1, Ordering::SeqCst);
            assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len(), "each once");
            let gate = Arc::clone(&gate);
            async move {
                drop(gate.acquire().await);
                Ok(keys.into_iter().filter(|key| key % 2 == 0).map(|key| (key, key * 10)).collect())
            }
        }));
        let ask = |key| {
            let gather = Arc::clone(&gather);
            tokio::spawn(async move { gather.get(key).await })
        };
        // As many as run at once, one key each; then many more, which have to wait.
        let mut asked = Vec::new();
        for running in 1..=STORE_GATHERED_READS_MAX {
            asked.push((running, ask(running)));
            while reads.load(Ordering::SeqCst) < running {
                tokio::task::yield_now().await;
            }
        }
        asked.extend((0..100).map(|place| (place / 2, ask(place / 2))));
        tokio::task::yield_now().await;
        go.add_permits(1);
        for (key, answer) in asked {
            assert_eq!(answer.await.unwrap().unwrap(), (key % 2 == 0).then_some(key * 10));
        }
        assert_eq!(reads.load(Ordering::SeqCst), STORE_GATHERED_READS_MAX + 1);
    }

    #[tokio::test]
    async fn a_failed_read_fails_for_all_who_asked() {
        let gather: Gather<u8, u8> =
            Gather::new(|_| async { Err(ReadError::TimedOut(STORE_READ_WAIT_MAX)) });
        for answer in join_all((0..3).map(|key| gather.get(key))).await {
            assert!(answer.unwrap_err().to_string().contains("no answer within"));
        }
    }
}
