//! Rows and the domain's types: how each is written and read back.

use std::error::Error;
use std::net::IpAddr;
use std::str::FromStr;

use jiff::Timestamp;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Type, ValueRef};
use rusqlite::{Result, Row};
use serde_json::value::RawValue;

use crate::domain::address::{AddressRange, from_key};
use crate::domain::annotations::Annotations;
use crate::domain::event::{Event, Kind, LoggedEvent, Origin, Verb};
use crate::domain::id::{EventId, LeaseId, PoolId, ReservationId, SubnetId};
use crate::domain::lease::Lease;
use crate::domain::metadata::Metadata;
use crate::domain::pool::{Pool, PoolSettings, State};
use crate::domain::reservation::Reservation;
use crate::domain::strategy::Strategy;
use crate::domain::subnet::{Layout, Span, Subnet, SubnetSettings};
use crate::domain::threshold::Level;
use crate::store::change::{Recorded, RequestKey};

/// What a recorded answer has that speaks of several resources.
pub const NO_REVISION: u64 = 0;

/// The columns that each of the readers below expects, in its order.
pub const POOL: &str = "item.id, item.name, item.tags, item.metadata, item.deletion_protection, \
     item.state, item.revision, item.subnets_revision, item.created_at, item.updated_at, \
     item.strategy, item.supernets, item.address_space, item.depleted_at";
pub const SUBNET: &str = "item.id, item.pool, item.name, item.tags, item.metadata, item.cidr, \
     item.first, item.last, item.gateway, item.excluded, item.deletion_protection, item.state, \
     item.revision, item.layout_revision, item.created_at, item.updated_at, item.strategy, \
     item.quarantine_seconds, item.quarantine_override, item.allocatable, item.depleted_at, \
     item.depleted";
pub const RESERVATION: &str = "item.id, item.pool, item.subnet, item.name, item.tags, \
     item.metadata, item.expires_at, item.revision, item.created_at, item.updated_at";
pub const LEASE: &str = "item.reservation, item.ordinal, item.subnet, item.address, item.name, \
     item.tags, item.metadata, item.revision, item.created_at, item.updated_at";
pub const EVENT: &str = "position, at, id, kind, verb, pool, subnet, resource, actor, request_id, \
     data, before";
pub const ANSWER: &str = "key, fingerprint, location, revision, body, at";

pub fn pool(row: &Row<'_>) -> Result<Pool> {
    let mut columns = Columns::of(row);
    Ok(Pool {
        id: columns.next()?,
        annotations: columns.annotations()?,
        deletion_protection: columns.next()?,
        state: columns.next()?,
        revision: columns.next()?,
        subnets_revision: columns.next()?,
        created_at: columns.time()?,
        updated_at: columns.time()?,
        settings: PoolSettings {
            strategy: columns.next()?,
            supernets: columns.parsed_list()?,
            address_space: columns.next()?,
            depleted_at: columns.level()?,
        },
    })
}

pub fn subnet(row: &Row<'_>) -> Result<Subnet> {
    let mut columns = Columns::of(row);
    Ok(Subnet {
        id: columns.next()?,
        pool: columns.next()?,
        annotations: columns.annotations()?,
        layout: columns.layout()?,
        deletion_protection: columns.next()?,
        state: columns.next()?,
        revision: columns.next()?,
        layout_revision: columns.next()?,
        created_at: columns.time()?,
        updated_at: columns.time()?,
        settings: SubnetSettings {
            strategy: columns.next()?,
            quarantine_seconds: columns.next()?,
            quarantine_override: columns.next()?,
            allocatable: columns.next()?,
            depleted_at: columns.level()?,
        },
        depleted: columns.next()?,
    })
}

/// A reservation without its leases.
pub fn reservation(row: &Row<'_>) -> Result<Reservation> {
    let mut columns = Columns::of(row);
    Ok(Reservation {
        id: columns.next()?,
        pool: columns.next()?,
        subnet: columns.next()?,
        annotations: columns.annotations()?,
        expires_at: columns.next::<Option<Time>>()?.map(|time| time.0),
        revision: columns.next()?,
        created_at: columns.time()?,
        updated_at: columns.time()?,
        leases: Vec::new(),
    })
}

pub fn lease(row: &Row<'_>) -> Result<Lease> {
    let mut columns = Columns::of(row);
    Ok(Lease {
        id: LeaseId { reservation: columns.next()?, ordinal: columns.next()? },
        subnet: columns.next()?,
        address: from_key(columns.next()?),
        annotations: columns.annotations()?,
        revision: columns.next()?,
        created_at: columns.time()?,
        updated_at: columns.time()?,
    })
}

pub fn event(row: &Row<'_>) -> Result<LoggedEvent> {
    let mut columns = Columns::of(row);
    Ok(LoggedEvent {
        position: columns.next()?,
        at: columns.time()?,
        event: Event {
            id: columns.next()?,
            kind: columns.next()?,
            verb: columns.next()?,
            pool: columns.next()?,
            subnet: columns.next()?,
            resource: columns.next()?,
            origin: Origin { actor: columns.next()?, request_id: columns.next()? },
            data: columns.json()?,
            before: match columns.next()? {
                None => None,
                Some(text) => Some(columns.parse_json(text)?),
            },
        },
    })
}

pub fn answer(row: &Row<'_>) -> Result<Recorded> {
    let mut columns = Columns::of(row);
    Ok(Recorded {
        request: RequestKey { key: columns.next()?, fingerprint: columns.next()? },
        location: columns.next()?,
        revision: Some(columns.next()?).filter(|revision| *revision != NO_REVISION),
        body: columns.next::<Vec<u8>>()?.into(),
        at: columns.time()?,
    })
}

/// Name, tags and metadata, from the first column on.
pub fn annotations(row: &Row<'_>) -> Result<Annotations> {
    Columns::of(row).annotations()
}

/// Reads the columns of a row one after the other.
pub struct Columns<'row> {
    row: &'row Row<'row>,
    read: usize,
}

impl<'row> Columns<'row> {
    pub fn of(row: &'row Row<'row>) -> Self {
        Self { row, read: 0 }
    }

    pub fn next<T: FromSql>(&mut self) -> Result<T> {
        let value = self.row.get(self.read);
        self.read += 1;
        value
    }

    pub fn annotations(&mut self) -> Result<Annotations> {
        Ok(Annotations {
            name: self.next()?,
            tags: self.list()?,
            metadata: match self.next()? {
                None => Metadata::default(),
                Some(text) => Metadata::trusted(self.parse_json(text)?),
            },
        })
    }

    pub fn layout(&mut self) -> Result<Layout> {
        let cidr: Option<String> = self.next()?;
        let (first, last) = (from_key(self.next()?), from_key(self.next()?));
        let span = match cidr {
            Some(cidr) => Span::Cidr(cidr.parse().map_err(|error| self.malformed(error))?),
            None => {
                Span::Range(AddressRange::new(first, last).map_err(|error| self.malformed(error))?)
            }
        };
        let gateway: Option<String> = self.next()?;
        let gateway: Option<IpAddr> =
            gateway.map(|text| text.parse()).transpose().map_err(|error| self.malformed(error))?;
        let excluded = self.parsed_list()?;
        Layout::new(span, gateway, excluded).map_err(|error| self.malformed(error))
    }

    fn time(&mut self) -> Result<Timestamp> {
        self.next::<Time>().map(|time| time.0)
    }

    fn json(&mut self) -> Result<Box<RawValue>> {
        let text = self.next()?;
        self.parse_json(text)
    }

    fn list(&mut self) -> Result<Vec<String>> {
        let Some(text) = self.next::<Option<String>>()? else { return Ok(Vec::new()) };
        serde_json::from_str(&text).map_err(|error| self.malformed(error))
    }

    fn parsed_list<T: FromStr<Err: Error + Send + Sync + 'static>>(&mut self) -> Result<Vec<T>> {
        let parsed = self.list()?.iter().map(|text| text.parse()).collect::<Result<_, _>>();
        parsed.map_err(|error| self.malformed(error))
    }

    fn level(&mut self) -> Result<Option<Level>> {
        let percent: Option<u64> = self.next()?;
        percent.map(Level::new).transpose().map_err(|error| self.malformed(error))
    }

    fn parse_json(&self, text: String) -> Result<Box<RawValue>> {
        RawValue::from_string(text).map_err(|error| self.malformed(error))
    }

    /// The column that was read last does not hold what it should.
    fn malformed(&self, error: impl Error + Send + Sync + 'static) -> rusqlite::Error {
        let column = self.read.saturating_sub(1);
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    }
}

/// A list of texts as JSON; an empty one is NULL.
pub fn list<T: ToString>(items: &[T]) -> Option<String> {
    let texts = items.iter().map(|item| serde_json::Value::String(item.to_string()));
    (!items.is_empty()).then(|| serde_json::Value::Array(texts.collect()).to_string())
}

/// Metadata as JSON text; `null` is NULL.
pub fn metadata(annotations: &Annotations) -> Option<&str> {
    let metadata = &annotations.metadata;
    (!metadata.is_null()).then(|| metadata.as_json())
}

/// The CIDR that a span was given as, if it was.
pub fn cidr(layout: &Layout) -> Option<String> {
    match layout.span() {
        Span::Cidr(net) => Some(net.to_string()),
        Span::Range(_) => None,
    }
}

macro_rules! id_columns {
    ($($id:ident),+) => {
        $(
            impl ToSql for $id {
                fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
                    Ok(ToSqlOutput::Borrowed(ValueRef::Blob(self.as_bytes())))
                }
            }

            impl FromSql for $id {
                fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                    FromSql::column_result(value).map(Self::from_bytes)
                }
            }
        )+
    };
}

id_columns!(PoolId, SubnetId, ReservationId, EventId);

/// Words as small integers; the codes are part of the schema.
macro_rules! code_columns {
    ($word:ident { $($variant:ident = $code:literal),+ }) => {
        impl ToSql for $word {
            fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
                Ok(ToSqlOutput::from(match self { $(Self::$variant => $code),+ }))
            }
        }

        impl FromSql for $word {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                match value.as_i64()? {
                    $($code => Ok(Self::$variant),)+
                    other => Err(FromSqlError::OutOfRange(other)),
                }
            }
        }
    };
}

code_columns!(State { Live = 0, Deleting = 1 });
code_columns!(Kind { Pool = 0, Subnet = 1, Reservation = 2, Lease = 3 });
code_columns!(Verb {
    Created = 0,
    Updated = 1,
    Deleting = 2,
    Deleted = 3,
    Expired = 4,
    Carved = 5,
    Cordoned = 6,
    Uncordoned = 7,
    Depleted = 8,
    Replenished = 9
});
code_columns!(Strategy { FirstAvailable = 0, Random = 1, RoundRobin = 2, LongestIdle = 3 });

/// A time as microseconds since the epoch.
#[derive(Clone, Copy)]
pub struct Time(pub Timestamp);

impl ToSql for Time {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.0.as_microsecond()))
    }
}

impl FromSql for Time {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let micros = value.as_i64()?;
        let time = Timestamp::from_microsecond(micros);
        time.map(Self).map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}
