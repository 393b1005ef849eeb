//! Reservations and their leases.

use rusqlite::params;

use super::{Apply, Stop, expect_revision};
use crate::domain::address::to_key;
use crate::domain::event::Kind;
use crate::domain::id::{LeaseId, ReservationId, SubnetId};
use crate::domain::lease::{Lease, LeaseKey};
use crate::domain::reservation::Reservation;
use crate::store::error::Refusal;
use crate::store::sqlite::rows::{self, Time, list, metadata};

impl<'batch> Apply<'_, 'batch> {
    pub(super) fn create_reservations(
        &mut self,
        reservations: &'batch [Reservation],
        chosen_under: &[(SubnetId, u64)],
    ) -> Result<(), Stop> {
        for (subnet, layout_revision) in chosen_under {
            self.subnet_guard(*subnet, *layout_revision)?;
        }
        reservations.iter().try_for_each(|reservation| self.create_reservation(reservation))
    }

    fn create_reservation(&mut self, reservation: &'batch Reservation) -> Result<(), Stop> {
        self.reservations.push(reservation);
        self.leases.extend(&reservation.leases);
        self.label(Kind::Reservation, reservation.id.as_bytes(), 0, &reservation.annotations)?;
        reservation.leases.iter().try_for_each(|Lease { id, annotations, .. }| {
            self.label(Kind::Lease, id.reservation.as_bytes(), id.ordinal, annotations)
        })
    }

    pub(super) fn update_reservation(&self, reservation: &Reservation) -> Result<(), Stop> {
        let Reservation { id, annotations, .. } = reservation;
        let stored = "SELECT name, tags, metadata, revision FROM reservations WHERE id = ?";
        let (before, revision) = self.stored(stored, id.as_bytes())?;
        expect_revision(revision + 1, reservation.revision)?;
        self.run(
            "UPDATE reservations SET name = ?, tags = ?, metadata = ?, expires_at = ?, \
             revision = ?, updated_at = ? WHERE id = ?",
            params![
                annotations.name,
                list(&annotations.tags),
                metadata(annotations),
                reservation.expires_at.map(Time),
                reservation.revision,
                Time(reservation.updated_at),
                id
            ],
        )?;
        self.relabel(Kind::Reservation, id.as_bytes(), 0, (&before, annotations))
    }

    pub(super) fn delete_reservation(&self, id: ReservationId, revision: u64) -> Result<(), Stop> {
        let stored = "SELECT name, tags, metadata, revision FROM reservations WHERE id = ?";
        let (before, found) = self.stored(stored, id.as_bytes())?;
        expect_revision(found, revision)?;
        self.run("DELETE FROM reservations WHERE id = ?", [id])?;
        self.unlabel(Kind::Reservation, id.as_bytes(), 0, &before)?;
        self.run(
            "INSERT INTO released SELECT subnet, address, ? FROM leases WHERE reservation = ? \
             ON CONFLICT (subnet, address) DO UPDATE SET at = excluded.at",
            params![Time(self.log.last_at), id],
        )?;
        let delete = "DELETE FROM leases WHERE reservation = ? \
             RETURNING name, tags, metadata, ordinal";
        let leases = self.query(delete, [id], |row| Ok((rows::annotations(row)?, row.get(3)?)))?;
        for (before, ordinal) in leases {
            self.unlabel(Kind::Lease, id.as_bytes(), ordinal, &before)?;
        }
        Ok(())
    }

    pub(super) fn update_lease(
        &self,
        lease: &Lease,
        reservation_revision: u64,
    ) -> Result<(), Stop> {
        let LeaseId { reservation, ordinal } = lease.id;
        self.count_reservation_change(reservation, reservation_revision)?;
        let stored =
            "SELECT name, tags, metadata FROM leases WHERE reservation = ? AND ordinal = ?";
        let before = self.first(stored, params![reservation, ordinal], rows::annotations)?;
        let before = before.ok_or(Refusal::NotFound)?;
        let annotations = &lease.annotations;
        self.run(
            "UPDATE leases SET name = ?, tags = ?, metadata = ?, revision = ?, updated_at = ? \
             WHERE reservation = ? AND ordinal = ?",
            params![
                annotations.name,
                list(&annotations.tags),
                metadata(annotations),
                lease.revision,
                Time(lease.updated_at),
                reservation,
                ordinal
            ],
        )?;
        self.relabel(Kind::Lease, reservation.as_bytes(), ordinal, (&before, annotations))
    }

    pub(super) fn delete_leases(
        &self,
        reservation: ReservationId,
        revision: u64,
        leases: &[LeaseKey],
    ) -> Result<(), Stop> {
        self.count_reservation_change(reservation, revision)?;
        for lease in leases {
            let delete = "DELETE FROM leases WHERE subnet = ? AND address = ? AND reservation = ? \
                 RETURNING name, tags, metadata, ordinal";
            let key = params![lease.subnet, to_key(lease.address), reservation];
            let deleted =
                self.query(delete, key, |row| Ok((rows::annotations(row)?, row.get(3)?)))?;
            let (before, ordinal) = deleted.first().ok_or(Refusal::Stale)?;
            self.unlabel(Kind::Lease, reservation.as_bytes(), *ordinal, before)?;
            self.run(
                "INSERT INTO released VALUES (?, ?, ?) \
                 ON CONFLICT (subnet, address) DO UPDATE SET at = excluded.at",
                params![lease.subnet, to_key(lease.address), Time(self.log.last_at)],
            )?;
        }
        let lives_on = "SELECT 1 FROM leases WHERE reservation = ? LIMIT 1";
        if self.conn.prepare_cached(lives_on)?.exists([reservation])? {
            Ok(())
        } else {
            Err(Refusal::Stale.into())
        }
    }

    /// Counts up the revision of a reservation, which must be `from`.
    pub(super) fn count_reservation_change(
        &self,
        id: ReservationId,
        from: u64,
    ) -> Result<(), Stop> {
        let read = "SELECT revision FROM reservations WHERE id = ?";
        let found = self.first(read, [id], |row| row.get(0))?.ok_or(Refusal::NotFound)?;
        expect_revision(found, from)?;
        self.run("UPDATE reservations SET revision = revision + 1 WHERE id = ?", [id])?;
        Ok(())
    }
}
