//! Threads for work that blocks. Each owns one state, such as a connection; all of a group take
//! their jobs from one bounded queue. A job that was queued runs, whether or not anybody still waits
//! for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::{io, thread};

use tokio::sync::{mpsc, oneshot};

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// A group of threads. Dropping it lets them finish what is queued, and waits for that.
pub struct Threads<S> {
    queue: Option<mpsc::Sender<Job<S>>>,
    handles: Vec<JoinHandle<()>>,
}

/// Why a job has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    #[error("the threads have ended")]
    NotBegun,
    #[error("the job ended without an answer")]
    Lost,
}

impl<S: Send + 'static> Threads<S> {
    /// Starts one thread for each of `states`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        name: &str,
        queue_max: usize,
        states: impl IntoIterator<Item = S>,
    ) -> io::Result<Self> {
        let (queue, jobs) = mpsc::channel(queue_max);
        let jobs = Arc::new(Mutex::new(jobs));
        let mut threads = Self { queue: Some(queue), handles: Vec::new() };
        for state in states {
            let jobs = Arc::clone(&jobs);
            let builder = thread::Builder::new().name(name.to_owned());
            threads.handles.push(builder.spawn(move || work(state, &jobs))?);
        }
        Ok(threads)
    }

    /// Runs `job` on one of the threads, when its turn comes.
    ///
    /// # Errors
    /// [`NoAnswer`] when it was not begun, or panicked on the way.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        self.run_and_then(job, |_| {}).await
    }

    /// The same; when its answer is sent, `after` runs there, before the next job.
    ///
    /// # Errors
    /// As [`Threads::run`].
    pub async fn run_and_then<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut S) -> T + Send + 'static,
        after: impl FnOnce(&mut S) + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let (reply, answer) = oneshot::channel();
        let job: Job<S> = Box::new(move |state| {
            // Who no longer waits need not be told.
            let _ = reply.send(job(state));
            after(state);
        });
        let queue = self.queue.as_ref().ok_or(NoAnswer::NotBegun)?;
        queue.send(job).await.map_err(|_| NoAnswer::NotBegun)?;
        answer.await.map_err(|_| NoAnswer::Lost)
    }
}

impl<S> Drop for Threads<S> {
    fn drop(&mut self) {
        self.queue = None;
        for handle in self.handles.drain(..) {
            // A panic was logged by the thread itself.
            let _ = handle.join();
        }
    }
}

/// Takes jobs until the queue is closed and empty. The state outlives a job that panics: a
/// transaction it had open is rolled back as the stack unwinds.
fn work<S>(mut state: S, jobs: &Mutex<mpsc::Receiver<Job<S>>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(job) = job else { return };
        if catch_unwind(AssertUnwindSafe(|| job(&mut state))).is_err() {
            tracing::error!("a job of the store panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_loses_its_answer_and_nothing_else() {
        let threads = Threads::start("test", 4, [0]).unwrap();
        let lost = threads.run(|_| -> u32 { panic!("on purpose") }).await;
        assert_eq!(lost, Err(NoAnswer::Lost));
        let count = threads.run(|state| {
            *state += 1;
            *state
        });
        assert_eq!(count.await, Ok(1));
    }

    #[tokio::test]
    async fn dropping_the_group_finishes_what_is_queued() {
        let (sender, done) = std::sync::mpsc::channel();
        let threads = Threads::start("test", 4, [(), ()]).unwrap();
        for number in 0..4 {
            let sender = sender.clone();
            let queue = threads.queue.as_ref().unwrap();
            queue.send(Box::new(move |()| sender.send(number).unwrap())).await.unwrap();
        }
        drop(threads);
        let mut numbers: Vec<i32> = done.try_iter().collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2, 3]);
    }
}
