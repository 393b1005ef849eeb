//! CPU time that processes took, as the kernel counts it: in hundredths of a second, so over seconds
//! at least.

use std::time::Duration;

/// The unit in which `/proc` tells times, on every Linux of today.
const TICK: Duration = Duration::from_millis(10);

/// Whose time is counted.
#[derive(Clone, Copy)]
pub struct Processes {
    pub mongod: u32,
    pub ipam: u32,
}

/// CPU times at one moment, since each process began.
pub struct Moment {
    mongod: Duration,
    ipam: Duration,
    own: Duration,
    /// Of child processes that have ended.
    children: Duration,
}

/// What a number of reservations took.
#[derive(Clone, Copy, Default)]
pub struct Costs {
    reservations: usize,
    mongod: Duration,
    ipam: Duration,
    client: Duration,
}

impl Processes {
    pub fn now(self) -> Moment {
        let [own, children] = times("self");
        let [mongod, _] = times(self.mongod);
        let [ipam, _] = times(self.ipam);
        Moment { mongod, ipam, own, children }
    }
}

impl Costs {
    /// Adds what passed since `begun`.
    pub fn add(&mut self, processes: Processes, begun: &Moment, reservations: usize) {
        let now = processes.now();
        self.reservations += reservations;
        self.mongod += now.mongod - begun.mongod;
        self.ipam += now.ipam - begun.ipam;
        self.client += now.own + now.children - begun.own - begun.children;
    }

    /// Microseconds for each reservation: of mongod, of the service, of the client.
    pub fn each(&self) -> [f64; 3] {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / self.reservations as f64;
        [each(self.mongod), each(self.ipam), each(self.client)]
    }
}

/// The CPU time of a process, and of its children that have ended.
fn times(process: impl std::fmt::Display) -> [Duration; 2] {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    // After the name, which may hold anything: fields 14 to 17 of proc_pid_stat(5).
    let (_, fields) = stat.rsplit_once(')').expect("the name is in parentheses");
    let ticks: Vec<u32> = fields
        .split_whitespace()
        .skip(11)
        .take(4)
        .map(|ticks| ticks.parse().expect("a number of ticks"))
        .collect();
    [TICK * (ticks[0] + ticks[1]), TICK * (ticks[2] + ticks[3])]
}
