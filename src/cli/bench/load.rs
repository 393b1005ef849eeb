//! The clients: each has one connection and sends its next request when the last was answered.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use hyper::{Method, StatusCode, Uri};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::ledger::{Given, Ledger, addresses};
use super::tally::{Operation, Tally};
use crate::cli::http::{Answer, Connection, Server};

/// What the clients of one round do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Ask for addresses from the route that stores nothing.
    Baseline,
    /// Ask for addresses.
    Reserve,
    /// Read reservations they hold.
    Read,
    /// Of ten requests: reserve four, read three, patch one, release two.
    Mixed,
    /// Give back all they hold.
    Release,
}

const MIXED: [Operation; 10] = [
    Operation::Reserve,
    Operation::Read,
    Operation::Reserve,
    Operation::Patch,
    Operation::Release,
    Operation::Reserve,
    Operation::Read,
    Operation::Reserve,
    Operation::Read,
    Operation::Release,
];

/// What all clients share: where they ask, and what for.
pub struct Target {
    /// `/subnets/{id}/reservations`.
    pub reservations: Uri,
    /// Addresses in one reservation.
    pub count: usize,
    pub ledger: Ledger,
    /// Requests sent in measured rounds, for the progress bar.
    pub sent: AtomicU64,
}

/// A client and the reservations it holds, oldest first.
struct Client {
    connection: Connection,
    target: Arc<Target>,
    ask: Bytes,
    holdings: VecDeque<Holding>,
    turn: usize,
}

struct Holding {
    location: Uri,
    addresses: Vec<IpAddr>,
}

/// All clients; they keep their connections from round to round.
pub struct Clients(Vec<Client>);

impl Clients {
    pub async fn connect(
        server: &Server,
        count: usize,
        target: &Arc<Target>,
    ) -> anyhow::Result<Self> {
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            clients.push(Client {
                connection: Connection::open(server).await?,
                target: Arc::clone(target),
                ask: format!("{{\"count\":{}}}", target.count).into(),
                holdings: VecDeque::new(),
                turn: 0,
            });
        }
        Ok(Self(clients))
    }

    /// Lets all clients work at once until `requests` were sent, or nothing is left to do. Answers
    /// what came of it and how long it took.
    pub async fn round(&mut self, work: Work, requests: u64) -> anyhow::Result<(Tally, Duration)> {
        let tickets = Arc::new(AtomicU64::new(requests));
        let start = Arc::new(Barrier::new(self.0.len() + 1));
        let mut running = JoinSet::new();
        for mut client in self.0.drain(..) {
            let (tickets, start) = (Arc::clone(&tickets), Arc::clone(&start));
            running.spawn(async move {
                start.wait().await;
                let tally = client.work(work, &tickets).await;
                (client, tally)
            });
        }
        start.wait().await;
        let started = Instant::now();
        let mut all = Tally::default();
        while let Some(ended) = running.join_next().await {
            let (client, tally) = ended.context("a client died")?;
            self.0.push(client);
            all.add(tally);
        }
        Ok((all, started.elapsed()))
    }
}

impl Client {
    /// Ends early when there is nothing to do, or the connection broke.
    async fn work(&mut self, work: Work, tickets: &AtomicU64) -> Tally {
        let mut tally = Tally::default();
        while let Some(operation) = self.next(work)
            && take_ticket(tickets)
        {
            self.turn += 1;
            if let Err(error) = self.perform(operation, &mut tally).await {
                tally.failed(|| format!("{}: {error:#}", operation.as_str()));
                break;
            }
            if work != Work::Release {
                self.target.sent.fetch_add(1, Ordering::Relaxed);
            }
        }
        tally
    }

    fn next(&self, work: Work) -> Option<Operation> {
        let holds = !self.holdings.is_empty();
        match work {
            Work::Baseline => Some(Operation::Baseline),
            Work::Reserve => Some(Operation::Reserve),
            Work::Read => holds.then_some(Operation::Read),
            Work::Release => holds.then_some(Operation::Release),
            Work::Mixed if holds => MIXED.get(self.turn % MIXED.len()).copied(),
            Work::Mixed => Some(Operation::Reserve),
        }
    }

    /// # Errors
    /// When no answer came, or one that cannot be read.
    async fn perform(&mut self, operation: Operation, tally: &mut Tally) -> anyhow::Result<()> {
        let (method, target, body) = match operation {
            Operation::Baseline => {
                (Method::POST, Uri::from_static("/bench/reservations"), self.ask.clone())
            }
            Operation::Reserve => {
                (Method::POST, self.target.reservations.clone(), self.ask.clone())
            }
            Operation::Read => (Method::GET, self.next_held()?, Bytes::new()),
            Operation::Patch => {
                (Method::PATCH, self.next_held()?, Bytes::from_static(b"{\"name\":\"patched\"}"))
            }
            Operation::Release => (Method::DELETE, self.let_go()?, Bytes::new()),
        };
        let sent = Instant::now();
        let answer = self.connection.send(method, target, body).await?;
        tally.answered(operation, answer.status, sent.elapsed());
        match (operation, answer.status) {
            (Operation::Reserve, StatusCode::CREATED) => self.hold(answer, tally),
            (Operation::Baseline, StatusCode::CREATED) => self.granted().map(drop),
            _ => Ok(()),
        }
    }

    /// The addresses of the last answer.
    fn granted(&self) -> anyhow::Result<Vec<IpAddr>> {
        let addresses = addresses(self.connection.body())?;
        let (asked, given) = (self.target.count, addresses.len());
        ensure!(asked == given, "asked for {asked} addresses and was given {given}");
        Ok(addresses)
    }

    fn hold(&mut self, answer: Answer, tally: &mut Tally) -> anyhow::Result<()> {
        let addresses = self.granted()?;
        for address in &addresses {
            tally.verdict.addresses += 1;
            match self.target.ledger.given(*address) {
                Given::Rightly => {}
                Given::Twice => tally.verdict.duplicates += 1,
                Given::Outside => tally.verdict.outside += 1,
            }
        }
        let location = answer.location.context("the answer has no Location")?;
        let location = location.as_bytes().try_into().context("its Location is not a path")?;
        self.holdings.push_back(Holding { location, addresses });
        Ok(())
    }

    /// One reservation after the other.
    fn next_held(&mut self) -> anyhow::Result<Uri> {
        let place = self.turn.checked_rem(self.holdings.len()).unwrap_or_default();
        let holding = self.holdings.get(place).context("nothing is held")?;
        Ok(holding.location.clone())
    }

    /// The oldest reservation, no longer held.
    fn let_go(&mut self) -> anyhow::Result<Uri> {
        let holding = self.holdings.pop_front().context("nothing is held")?;
        for address in holding.addresses {
            self.target.ledger.released(address);
        }
        Ok(holding.location)
    }
}

/// One request fewer is to be sent.
fn take_ticket(tickets: &AtomicU64) -> bool {
    let less = |left: u64| left.checked_sub(1);
    tickets.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
}
