//! What is read, each on one connection and in one read transaction.
//!
//! A list without filters is a range scan of an index. With filters it walks the entries of the
//! first one in order of id and looks the others up: linear in the entries of that label.

use std::collections::HashMap;
use std::net::IpAddr;

use jiff::Timestamp;
use rusqlite::{Connection, Result, params};

use crate::domain::address::{from_key, to_key};
use crate::domain::event::Kind;
use crate::domain::id::{LeaseId, PoolId, ReservationId, SubnetId};
use crate::domain::lease::Lease;
use crate::domain::pool::Pool;
use crate::domain::reservation::Reservation;
use crate::domain::subnet::Subnet;
use crate::store::change::Recorded;
use crate::store::query::{LeaseQuery, List, Page, Scope};

use super::rows::{self, ANSWER, LEASE, POOL, RESERVATION, SUBNET, Time};
use super::select::{Select, all, first};

pub fn pool(conn: &Connection, id: PoolId) -> Result<Option<Pool>> {
    first(conn, &format!("SELECT {POOL} FROM pools AS item WHERE id = ?"), [id], rows::pool)
}

pub fn pools(conn: &Connection, list: &List<PoolId>) -> Result<Page<Pool>> {
    let mut select = Select::labelled(POOL, "pools", Kind::Pool, &list.labels);
    select.after_id(list.after);
    select.page(conn, list.limit, rows::pool)
}

pub fn subnet(conn: &Connection, id: SubnetId) -> Result<Option<Subnet>> {
    first(conn, &format!("SELECT {SUBNET} FROM subnets AS item WHERE id = ?"), [id], rows::subnet)
}

pub fn subnets(conn: &Connection, pool: PoolId, list: &List<SubnetId>) -> Result<Page<Subnet>> {
    let mut select = Select::labelled(SUBNET, "subnets", Kind::Subnet, &list.labels);
    select.and("item.pool = ?", pool);
    select.after_id(list.after);
    select.page(conn, list.limit, rows::subnet)
}

pub fn subnets_of(conn: &Connection, pool: PoolId) -> Result<Vec<Subnet>> {
    let sql = format!("SELECT {SUBNET} FROM subnets AS item WHERE pool = ? ORDER BY id");
    all(conn, &sql, [pool], rows::subnet)
}

pub fn reservation(conn: &Connection, id: ReservationId) -> Result<Option<Reservation>> {
    let sql = format!("SELECT {RESERVATION} FROM reservations AS item WHERE id = ?");
    let reservation = first(conn, &sql, [id], rows::reservation)?;
    reservation.map(|reservation| with_leases(conn, reservation)).transpose()
}

pub fn reservations(
    conn: &Connection,
    scope: Scope,
    list: &List<ReservationId>,
) -> Result<Page<Reservation>> {
    let mut select = match scope {
        Scope::Pool(pool) => {
            let mut select =
                Select::labelled(RESERVATION, "reservations", Kind::Reservation, &list.labels);
            select.and("item.pool = ?", pool);
            select
        }
        Scope::Subnet(subnet) if list.labels.is_empty() => {
            // One entry for each lease: those of one reservation come together, and once.
            let holders = format!(
                "SELECT {RESERVATION} FROM \
                 (SELECT DISTINCT reservation AS id FROM leases INDEXED BY leases_by_subnet \
                  WHERE subnet = ? AND reservation > ? ORDER BY reservation LIMIT ?) AS holder \
                 CROSS JOIN reservations AS item ON item.id = holder.id"
            );
            let mut select = Select::new(holders, "holder.id");
            select.bind(subnet);
            select.bind(list.after.unwrap_or(ReservationId::MIN));
            select.bind(list.limit.saturating_add(1));
            return with_their_leases(conn, select.page(conn, list.limit, rows::reservation)?);
        }
        Scope::Subnet(subnet) => {
            let mut select =
                Select::labelled(RESERVATION, "reservations", Kind::Reservation, &list.labels);
            let holds = "EXISTS (SELECT 1 FROM leases INDEXED BY leases_by_subnet \
                 WHERE subnet = ? AND reservation = item.id)";
            select.and(holds, subnet);
            select
        }
    };
    select.after_id(list.after);
    with_their_leases(conn, select.page(conn, list.limit, rows::reservation)?)
}

fn with_their_leases(conn: &Connection, page: Page<Reservation>) -> Result<Page<Reservation>> {
    let items = page.items.into_iter().map(|reservation| with_leases(conn, reservation));
    Ok(Page { items: items.collect::<Result<_>>()?, more: page.more })
}

/// The same with its leases.
pub fn with_leases(conn: &Connection, reservation: Reservation) -> Result<Reservation> {
    let sql = format!("SELECT {LEASE} FROM leases AS item WHERE reservation = ? ORDER BY ordinal");
    Ok(Reservation { leases: all(conn, &sql, [reservation.id], rows::lease)?, ..reservation })
}

pub fn lease(conn: &Connection, id: LeaseId) -> Result<Option<Lease>> {
    let sql = format!("SELECT {LEASE} FROM leases AS item WHERE reservation = ? AND ordinal = ?");
    first(conn, &sql, (id.reservation, id.ordinal), rows::lease)
}

/// The condition that leaves the fewest leases drives; the others are checked on each of them.
pub fn leases(conn: &Connection, query: &LeaseQuery) -> Result<Page<Lease>> {
    let LeaseQuery { list, reservation, pool, subnet, address } = query;
    let from = |source: &str, order| {
        Select::new(format!("SELECT {LEASE} FROM {source} WHERE TRUE"), order)
    };
    let by_id = "leases AS item INDEXED BY leases_by_id";
    let id = "item.reservation, item.ordinal";
    let mut select = if reservation.is_some() {
        from(by_id, id)
    } else if let Some(address) = address {
        // Of the subnets that the address lies in, few hold it.
        let spans = "subnets AS span INDEXED BY subnets_by_span";
        let held = "leases AS item ON item.subnet = span.id";
        let mut select = from(&format!("{spans} CROSS JOIN {held}"), id);
        select.and("span.first <= ?", to_key(*address));
        select.and("span.last >= ?", to_key(*address));
        select
    } else if subnet.is_some() {
        from("leases AS item INDEXED BY leases_by_subnet", id)
    } else if let Some(label) = list.labels.first() {
        let labelled = "labels AS label CROSS JOIN leases AS item INDEXED BY leases_by_id \
             ON item.reservation = label.id AND item.ordinal = label.ordinal";
        let mut select = from(labelled, "label.id, label.ordinal");
        select.driven_by(Kind::Lease, label);
        select
    } else if let Some(pool) = pool {
        let held = "reservations AS holder INDEXED BY reservations_by_pool \
             CROSS JOIN leases AS item INDEXED BY leases_by_id ON item.reservation = holder.id";
        let mut select = from(held, "holder.id, item.ordinal");
        select.and("holder.pool = ?", *pool);
        select
    } else {
        from(by_id, id)
    };
    if let Some(reservation) = reservation {
        select.and("item.reservation = ?", *reservation);
    }
    if let Some(address) = address {
        select.and("item.address = ?", to_key(*address));
    }
    if let Some(subnet) = subnet {
        select.and("item.subnet = ?", *subnet);
    }
    if let Some(pool) = pool {
        let of_pool = "EXISTS (SELECT 1 FROM subnets WHERE id = item.subnet AND pool = ?)";
        select.and(of_pool, *pool);
    }
    select.carrying(Kind::Lease, ("item.reservation", "item.ordinal"), &list.labels);
    select.after_lease(list.after);
    select.page(conn, list.limit, rows::lease)
}

pub fn leased_addresses(conn: &Connection, subnet: SubnetId) -> Result<Vec<IpAddr>> {
    let sql = "SELECT address FROM leases WHERE subnet = ? ORDER BY address";
    all(conn, sql, [subnet], |row| row.get(0).map(from_key))
}

pub fn leased_among(
    conn: &Connection,
    subnet: SubnetId,
    mut addresses: Vec<IpAddr>,
) -> Result<Vec<IpAddr>> {
    let mut leased =
        conn.prepare_cached("SELECT 1 FROM leases WHERE subnet = ? AND address = ?")?;
    let mut outcome = Ok(());
    addresses.retain(|address| {
        let held = leased.exists((subnet, to_key(*address)));
        held.unwrap_or_else(|error| {
            outcome = Err(error);
            false
        })
    });
    outcome.map(|()| addresses)
}

/// Two range scans side by side: both tables have the same order.
pub fn released_addresses(
    conn: &Connection,
    subnet: SubnetId,
    since: Time,
) -> Result<Vec<(IpAddr, Timestamp)>> {
    let sql = "SELECT address, at FROM released WHERE subnet = ? AND at >= ? AND NOT EXISTS \
         (SELECT 1 FROM leases WHERE subnet = released.subnet AND address = released.address)";
    all(conn, sql, (subnet, since), |row| Ok((from_key(row.get(0)?), row.get::<_, Time>(1)?.0)))
}

pub fn released_among(
    conn: &Connection,
    subnet: SubnetId,
    addresses: &[IpAddr],
) -> Result<Vec<(IpAddr, Timestamp)>> {
    let sql = "SELECT at FROM released WHERE subnet = ? AND address = ?";
    let released = |address: &IpAddr| {
        let at: Result<Option<Time>> =
            first(conn, sql, (subnet, to_key(*address)), |row| row.get(0));
        at.map(|at| at.map(|at| (*address, at.0))).transpose()
    };
    addresses.iter().filter_map(released).collect()
}

pub fn expired(conn: &Connection, until: Time, limit: usize) -> Result<Vec<Reservation>> {
    let sql = format!(
        "SELECT {RESERVATION} FROM reservations AS item INDEXED BY reservations_by_end \
         WHERE expires_at <= ? ORDER BY expires_at LIMIT ?"
    );
    let expired = all(conn, &sql, params![until, limit], rows::reservation)?;
    expired.into_iter().map(|reservation| with_leases(conn, reservation)).collect()
}

pub fn subnets_in_space(conn: &Connection, space: &str) -> Result<Vec<Subnet>> {
    let sql = format!(
        "SELECT {SUBNET} FROM pools AS owner INDEXED BY pools_by_space \
         CROSS JOIN subnets AS item ON item.pool = owner.id WHERE owner.address_space = ?"
    );
    all(conn, &sql, [space], rows::subnet)
}

pub fn lease_counts(conn: &Connection, subnets: &[SubnetId]) -> Result<HashMap<SubnetId, u64>> {
    let mut count = conn.prepare_cached("SELECT count(*) FROM leases WHERE subnet = ?")?;
    let counted = |id: &SubnetId| Ok((*id, count.query_row([id], |row| row.get(0))?));
    subnets.iter().map(counted).collect()
}

pub fn answer(conn: &Connection, key: &str, since: Time) -> Result<Option<Recorded>> {
    let sql = format!("SELECT {ANSWER} FROM answers WHERE key = ? AND at >= ?");
    first(conn, &sql, (key, since), rows::answer)
}

pub fn answers(conn: &Connection, after: Option<String>, limit: usize) -> Result<Page<Recorded>> {
    let mut select = Select::new(format!("SELECT {ANSWER} FROM answers WHERE TRUE"), "key");
    select.after_id(after);
    select.page(conn, limit, rows::answer)
}

pub fn unfinished_deletions(conn: &Connection) -> Result<(Vec<Pool>, Vec<Subnet>)> {
    let pools = format!("SELECT {POOL} FROM pools AS item WHERE state = 1 ORDER BY id");
    let subnets = format!("SELECT {SUBNET} FROM subnets AS item WHERE state = 1 ORDER BY id");
    Ok((all(conn, &pools, [], rows::pool)?, all(conn, &subnets, [], rows::subnet)?))
}
