//! Everything that lives, at one position of the log, as lines of JSON.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt, poll_fn};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::timeout;

use crate::actors::failure::Failure;
use crate::domain::id::SubnetId;
use crate::domain::resource::{
    Network, PoolResource, ReservationResource, SubnetResource, one_line, to_json,
};
use crate::limits::{SNAPSHOT_PIECE_BYTES, STREAM_STALL_MAX};
use crate::store::error::Fault;
use crate::store::whole::{Piece, whole};
use crate::store::{Snapshot, Stored};

use super::Ipam;

const WHAT: &str = "telling a snapshot";

impl Ipam {
    /// Everything that lives: a line that says at which position of the log, one for each pool, then
    /// for each subnet, then for each reservation, and one that counts them. A stream without that
    /// last line ends with a fault, and is not whole.
    ///
    /// Takes some 50 bytes for each subnet, and else little. One who takes nothing for
    /// [`STREAM_STALL_MAX`] is dropped. Must be called on the runtime that the taker lives on.
    ///
    /// # Errors
    /// [`Failure::Overloaded`] when too many are told; see [`Failure`].
    pub async fn snapshot(
        &self,
    ) -> Result<impl Stream<Item = Result<Bytes, Fault>> + Send + use<>, Failure> {
        let place = self.followers.snapshot()?;
        let snapshot = self.shared().store.snapshot().await?;
        let lines = Lines::begin(snapshot.position, self.shared().clock.now());
        let (out, mut told) = channel(1);
        tokio::spawn(async move {
            tell(snapshot, lines, &out).await;
            drop(place);
        });
        let pieces = poll_fn(move |cx| told.poll_recv(cx));
        Ok(whole(pieces, Fault::new(WHAT, "it was not taken in time")))
    }
}

/// Until all is told, or nobody takes it.
async fn tell(mut snapshot: Snapshot, mut lines: Lines, out: &Sender<Piece<Bytes>>) {
    while let Some(stored) = snapshot.items.next().await {
        match stored {
            Ok(stored) => lines.push(&stored),
            Err(fault) => {
                send(out, Some(Err(fault))).await;
                return;
            }
        }
        if lines.text.len() >= SNAPSHOT_PIECE_BYTES && !send(out, Some(Ok(lines.take()))).await {
            return;
        }
    }
    lines.end(snapshot.position);
    if send(out, Some(Ok(lines.take()))).await {
        send(out, None).await;
    }
}

/// Whether it was taken.
async fn send(out: &Sender<Piece<Bytes>>, piece: Piece<Bytes>) -> bool {
    matches!(timeout(STREAM_STALL_MAX, out.send(piece)).await, Ok(Ok(())))
}

/// Lines in the making.
struct Lines {
    text: String,
    /// Of the leases that come later.
    networks: HashMap<SubnetId, Network>,
    counts: Counts,
}

#[derive(Default, Serialize)]
struct Counts {
    pools: u64,
    subnets: u64,
    reservations: u64,
    leases: u64,
}

#[derive(Serialize)]
struct Head {
    kind: &'static str,
    position: String,
    time: Timestamp,
}

#[derive(Serialize)]
struct End<'a> {
    kind: &'static str,
    position: String,
    #[serde(flatten)]
    counts: &'a Counts,
}

impl Lines {
    fn begin(position: u64, time: Timestamp) -> Self {
        let (networks, counts) = (HashMap::new(), Counts::default());
        let mut lines = Self { text: String::new(), networks, counts };
        lines.line(&to_json(&Head { kind: "snapshot", position: position.to_string(), time }));
        lines
    }

    fn push(&mut self, stored: &Stored) {
        match stored {
            Stored::Pool(pool) => {
                self.counts.pools += 1;
                self.resource("pool", to_json(&PoolResource::new(pool, None)));
            }
            Stored::Subnet(subnet) => {
                self.counts.subnets += 1;
                self.networks.insert(subnet.id, Network::of(subnet));
                self.resource("subnet", to_json(&SubnetResource::new(subnet, None)));
            }
            Stored::Reservation(reservation) => {
                self.counts.reservations += 1;
                self.counts.leases += reservation.leases.len() as u64;
                let networks = &self.networks;
                let network_of = |id| networks.get(&id).copied();
                let resource = to_json(&ReservationResource::within(reservation, network_of));
                self.resource("reservation", resource);
            }
        }
    }

    fn end(&mut self, position: u64) {
        let end = End { kind: "end", position: position.to_string(), counts: &self.counts };
        self.line(&to_json(&end));
    }

    fn resource(&mut self, kind: &str, resource: String) {
        let resource = one_line(resource);
        self.text.extend(["{\"kind\":\"", kind, "\",\"resource\":", &resource, "}\n"]);
    }

    fn line(&mut self, line: &str) {
        self.text.extend([line, "\n"]);
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.text).into()
    }
}
