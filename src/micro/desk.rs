//! Where requests over NATS are taken in: so many at once, each worked on by a task of its own.

use std::sync::Arc;
use std::time::Instant;

use async_nats::Client;
use async_nats::service::Request;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::api::door::Door;
use crate::api::error::{Code, Problem};
use crate::api::observe::is_first_of_its_second;
use crate::limits::{NATS_API_REQUESTS_MAX, NATS_API_SEND_WAIT_MAX};

use super::ask::Asked;
use super::operation::{Done, Operation};
use super::reply::Reply;

/// All requests, over whichever connection they come.
pub struct Desk {
    door: Arc<Door>,
    places: Arc<Semaphore>,
}

/// A request under way.
struct Visit {
    client: Client,
    operation: Operation,
    request: Request,
    begun: Instant,
    /// Dropped when it is answered.
    _under_way: mpsc::Sender<()>,
}

impl Desk {
    pub fn new(door: Arc<Door>) -> Self {
        Self { door, places: Arc::new(Semaphore::new(NATS_API_REQUESTS_MAX)) }
    }

    /// Begins to work on a request, or refuses it. `under_way` is dropped when it is answered.
    pub async fn take(
        self: &Arc<Self>,
        client: &Client,
        (operation, request): (Operation, Request),
        under_way: mpsc::Sender<()>,
    ) {
        let client = client.clone();
        let begun = Instant::now();
        let visit = Visit { client, operation, request, begun, _under_way: under_way };
        let place = Arc::clone(&self.places).try_acquire_owned();
        let Ok(place) = place else {
            let asked = Asked::of(&visit.request.message);
            let detail = format!("{NATS_API_REQUESTS_MAX} requests over NATS are under way");
            return visit.answer(&asked, Err(Problem::new(Code::Overloaded, detail))).await;
        };
        let desk = Arc::clone(self);
        tokio::spawn(async move {
            let asked = Asked::of(&visit.request.message);
            let done = match desk.door.entered() {
                Ok(ipam) => visit.operation.run(&ipam, &asked).await,
                Err(closed) => Err(closed),
            };
            visit.answer(&asked, done).await;
            drop(place);
        });
    }

    /// Waits until no request is under way. Nobody takes one meanwhile.
    pub async fn is_idle(&self) {
        let all = u32::try_from(NATS_API_REQUESTS_MAX).unwrap_or(u32::MAX);
        // Never closed.
        drop(self.places.acquire_many(all).await);
    }
}

impl Visit {
    /// Answers, and tells the log. Whoever asked may be gone.
    async fn answer(&self, asked: &Asked<'_>, done: Result<Done, Problem>) {
        if let Err(problem) = &done {
            self.tell(asked, problem);
        }
        let reply = Reply::new(done, &asked.request_id, self.client.max_payload());
        let status = reply.status;
        let sent = self.request.respond_with_headers(Ok(reply.body), reply.headers);
        let sent = timeout(NATS_API_SEND_WAIT_MAX, sent).await;
        tracing::debug!(
            request.id = &*asked.request_id,
            nats.subject = self.request.message.subject.as_str(),
            http.status = status,
            duration_us = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            sent = matches!(sent, Ok(Ok(()))),
            "answered",
        );
    }

    fn tell(&self, asked: &Asked<'_>, problem: &Problem) {
        let Some(cause) = problem.cause().filter(|_| is_first_of_its_second()) else { return };
        tracing::error!(
            request.id = &*asked.request_id,
            nats.subject = self.request.message.subject.as_str(),
            problem.code = problem.code().as_str(),
            error = %cause,
            "a request failed: {problem}",
        );
    }
}
