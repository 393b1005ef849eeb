//! `ipam bench`: a load generator, and a judge of what the server answered. It looks at every
//! address it is given, on a pool and subnet of its own.
//!
//! The load comes in rounds. What a round took is given back before the next, so that each begins
//! at the same fill; with `--baseline`, a round against the route that stores nothing goes before
//! each, so that both meet the same machine.

mod ledger;
mod load;
mod report;
mod subject;
mod tally;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use ipnet::IpNet;

use load::{Clients, Target, Work};
use report::{Measured, Ratio, Report};
use subject::Subject;

use crate::cli::http::Server;
use crate::limits::{IPV4_PREFIX_MIN, IPV6_PREFIX_MIN, RESERVATION_ADDRESSES_MAX};

/// Reservations that each client reads from, one after the other.
const READ_FROM: u64 = 16;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server: http://HOST:PORT
    server: Server,
    /// Clients at once, each with a connection of its own
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    /// Requests that are measured
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,
    /// What the clients do
    #[arg(long, value_enum, default_value_t = Mode::Reserve)]
    mode: Mode,
    /// Addresses in one reservation
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=RESERVATION_ADDRESSES_MAX as i64))]
    count: u16,
    /// How full the subnet is when the measurement begins, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=100))]
    fill: u8,
    /// The size of the subnet [default: 12, for IPv6 108]
    #[arg(long)]
    prefix: Option<u8>,
    /// Use an IPv6 subnet
    #[arg(long)]
    ipv6: bool,
    /// Rounds into which the requests are divided
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Measure the route that stores nothing too, and print the ratio (needs `ipam serve
    /// --bench-route`)
    #[arg(long)]
    baseline: bool,
    /// Threads of the load generator [default: half of the cores]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Leave the pool there
    #[arg(long)]
    keep: bool,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Reserve addresses
    Reserve,
    /// Of ten requests: reserve four, read three, patch one, release two
    Mixed,
    /// Read reservations
    Read,
}

impl From<Mode> for Work {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Reserve => Self::Reserve,
            Mode::Mixed => Self::Mixed,
            Mode::Read => Self::Read,
        }
    }
}

impl Args {
    fn net(&self) -> anyhow::Result<IpNet> {
        let (first, prefix, min): (_, _, u8) = if self.ipv6 {
            let first = std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0);
            (first.into(), self.prefix.unwrap_or(108), IPV6_PREFIX_MIN)
        } else {
            let first = std::net::Ipv4Addr::new(10, 0, 0, 0);
            (first.into(), self.prefix.unwrap_or(12), IPV4_PREFIX_MIN)
        };
        ensure!(prefix >= min, "a subnet is a /{min} at most");
        IpNet::new(first, prefix).with_context(|| format!("/{prefix} is no prefix length"))
    }
}

/// Runs the load and prints what came of it. The exit code is 1 when an address was given twice, or
/// anything went wrong.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let net = args.net()?;
    ensure!(
        !args.baseline || args.mode == Mode::Reserve,
        "--baseline is compared with --mode reserve"
    );
    // The server works on the same machine, as a rule.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or((cores / 2).max(1), usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let report = runtime.block_on(measure(args, net))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(args: &Args, net: IpNet) -> anyhow::Result<Report> {
    let mut subject = Subject::create(&args.server, net, usize::from(args.count)).await?;
    let measured = fill_and_load(args, &mut subject).await;
    // Also after a failure: what the run made is not left behind.
    if !args.keep {
        subject.remove().await.context("cannot remove the pool of the run")?;
    }
    measured
}

async fn fill_and_load(args: &Args, subject: &mut Subject) -> anyhow::Result<Report> {
    let bar = ProgressBar::no_length().with_style(ProgressStyle::with_template(
        "{msg:8} {wide_bar} {human_pos}/{human_len} {per_sec}",
    )?);
    bar.set_message("filling");
    subject
        .fill(args.fill, |taken, of| {
            bar.set_length(of.try_into().unwrap_or(u64::MAX));
            bar.set_position(taken.try_into().unwrap_or(u64::MAX));
        })
        .await?;

    let kinds = 1 + u64::from(args.baseline);
    bar.reset();
    bar.set_message("loading");
    bar.set_length(args.requests * kinds);
    let watch = tokio::spawn(watch(bar.clone(), Arc::clone(&subject.target)));
    let report = load_in_rounds(args, &subject.target).await;
    watch.abort();
    bar.finish_and_clear();
    report
}

async fn load_in_rounds(args: &Args, target: &Arc<Target>) -> anyhow::Result<Report> {
    let count = usize::from(args.clients);
    let mut clients = Clients::connect(&args.server, count, target).await?;
    if args.mode == Mode::Read {
        unmeasured(&mut clients, Work::Reserve, u64::from(args.clients) * READ_FROM).await?;
    }
    let (mut baseline, mut own) = (Measured::default(), Measured::default());
    let mut pairs = Vec::new();
    for requests in divided(args.requests, args.rounds) {
        if args.mode != Mode::Read {
            unmeasured(&mut clients, Work::Release, u64::MAX).await?;
        }
        let base = match args.baseline {
            true => Some(baseline.add(clients.round(Work::Baseline, requests).await?)),
            false => None,
        };
        let took = own.add(clients.round(args.mode.into(), requests).await?);
        pairs.extend(base.map(|base| (base, took)));
        if !(baseline.tally.verdict.is_good() && own.tally.verdict.is_good()) {
            break;
        }
    }
    Ok(Report::new(vec![baseline, own], Ratio::of(&pairs)))
}

/// A round that only prepares the next.
async fn unmeasured(clients: &mut Clients, work: Work, requests: u64) -> anyhow::Result<()> {
    let (tally, _) = clients.round(work, requests).await?;
    ensure!(
        tally.verdict.is_good(),
        "cannot prepare a round: {}",
        tally.first_error.unwrap_or_else(|| "an address was given twice".into())
    );
    Ok(())
}

/// `requests` in `rounds` parts that are as equal as may be; none is empty.
fn divided(requests: u64, rounds: u16) -> impl Iterator<Item = u64> {
    let rounds = u64::from(rounds).min(requests).max(1);
    (0..rounds).map(move |round| requests / rounds + u64::from(round < requests % rounds))
}

async fn watch(bar: ProgressBar, target: Arc<Target>) {
    let mut every = tokio::time::interval(Duration::from_millis(100));
    loop {
        every.tick().await;
        bar.set_position(target.sent.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_share_the_requests() {
        for (requests, rounds, expected) in
            [(10, 4, vec![3, 3, 2, 2]), (2, 4, vec![1, 1]), (7, 1, vec![7])]
        {
            assert_eq!(divided(requests, rounds).collect::<Vec<_>>(), expected);
        }
    }
}
