//! What is the embedded store's own: its directory, its schema, and what `check` finds in a file
//! that somebody has had their hands in.

use std::fs;
use std::path::Path;

use ipam::domain::pool::PoolSettings;
use ipam::domain::subnet::SubnetSettings;
use ipam::store::audit::check;
use ipam::store::change::Recorded;
use ipam::store::sqlite::{OpenError, SqliteStore};
use rusqlite::Connection;

use crate::support::{
    Bed, Sqlite, annotations, cidr, create_pool, create_subnet, delete_leases, delete_pool,
    delete_reservation, delete_subnet, keeping, layout, now, pool, pool_in, recorded,
    renamed_lease, renamed_pool, reservation, reservation_with, reserve, subnet_with, update_lease,
    update_pool, update_subnet,
};

fn refused(dir: &Path) -> (OpenError, String) {
    let error = SqliteStore::open(dir).err().expect("it is refused");
    let sentence = error.to_string();
    (error, sentence)
}

#[test]
fn a_second_store_on_a_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("made/on/the/way");
    let first = SqliteStore::open(&data).unwrap();
    let (error, sentence) = refused(&data);
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
    assert!(sentence.contains(data.to_str().unwrap()), "{sentence}");
    drop(first);
    SqliteStore::open(&data).unwrap();
}

#[test]
fn a_schema_of_a_newer_version_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(SqliteStore::open(dir.path()).unwrap());
    let file = Connection::open(dir.path().join("ipam.db")).unwrap();
    file.pragma_update(None, "user_version", 1000).unwrap();
    drop(file);
    let (error, sentence) = refused(dir.path());
    assert!(matches!(error, OpenError::Newer { found: 1000, .. }), "{error:?}");
    assert!(sentence.contains("newer version"), "{sentence}");
    let file = Connection::open(dir.path().join("ipam.db")).unwrap();
    let version: i64 = file.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 1000);
}

#[test]
fn what_is_no_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    let (error, sentence) = refused(&file);
    assert!(matches!(error, OpenError::Directory { .. }), "{error:?}");
    assert!(sentence.contains(file.to_str().unwrap()), "{sentence}");

    fs::write(dir.path().join("ipam.db"), "not a database, but long enough to be one").unwrap();
    let (error, sentence) = refused(dir.path());
    assert!(matches!(error, OpenError::Database { .. }), "{error:?}");
    assert!(sentence.contains("ipam.db"), "{sentence}");
}

/// A store with one of everything.
async fn laden() -> (tempfile::TempDir, Bed) {
    let dir = tempfile::tempdir().unwrap();
    let bed = Bed::new(Sqlite::at(dir.path())).await;
    let (owner, subnet) = bed.subnet("10.0.0.0/24").await;
    let held = ["10.0.0.1", "10.0.0.2"].map(|text| (&subnet, text.parse().unwrap()));
    let own = annotations("r", &["t"], "null");
    let made = reservation_with(owner.id, None, &held, own, Vec::new());
    let mut change = reserve(&made, &[&subnet]);
    change.answer = Some(recorded("k", &format!("/reservations/{}", made.id), now()));
    bed.done(change).await;
    (dir, bed)
}

#[tokio::test]
async fn check_finds_what_was_changed_behind_its_back() {
    for (tampering, invariants) in [
        ("DELETE FROM leases WHERE ordinal = 1", &["INV-4"][..]),
        ("DELETE FROM leases", &["INV-3", "INV-4"]),
        ("DELETE FROM reservations", &["INV-3", "INV-3", "INV-3", "INV-4"]),
        ("DELETE FROM subnets", &["INV-3", "INV-3", "INV-3", "INV-3", "INV-4"]),
        ("UPDATE leases SET ordinal = 0", &["INV-3", "INV-4"]),
        (
            "UPDATE leases SET address = x'00000000000000000000ffff0a000100' WHERE ordinal = 0",
            &["INV-1", "INV-4", "INV-5"],
        ),
        ("UPDATE pools SET revision = 2", &["INV-4"]),
        ("UPDATE reservations SET name = 'other'", &["INV-4"]),
        ("DELETE FROM events WHERE position = 2", &["INV-4"]),
        ("DELETE FROM events WHERE position = 3", &["INV-4", "INV-7"]),
        ("UPDATE events SET at = at - position", &["INV-4", "INV-4"]),
        ("UPDATE answers SET location = '/pools/none'", &["INV-7"]),
        // Where several would be listed, and the body tells none.
        ("UPDATE answers SET location = '/pools/any/reservations'", &["INV-7"]),
    ] {
        let (dir, bed) = laden().await;
        assert_eq!(check(bed.store()).await.unwrap(), []);
        let file = Connection::open(dir.path().join("ipam.db")).unwrap();
        assert!(file.execute(tampering, []).unwrap() > 0, "{tampering}");
        let broken = check(bed.store()).await.unwrap();
        let mut found: Vec<_> = broken.iter().map(|violation| violation.invariant).collect();
        found.sort_unstable();
        assert_eq!(found, invariants, "{tampering}: {broken:#?}");
    }
}

#[tokio::test]
async fn check_finds_subnets_that_overlap_in_an_address_space() {
    let dir = tempfile::tempdir().unwrap();
    let bed = Bed::new(Sqlite::at(dir.path())).await;
    for space in ["lab", "field"] {
        let owner = pool_in(space);
        bed.done(create_pool(&owner)).await;
        bed.subnet_in(&owner, "10.0.0.0/24").await;
    }
    assert_eq!(check(bed.store()).await.unwrap(), []);
    let file = Connection::open(dir.path().join("ipam.db")).unwrap();
    file.execute("UPDATE pools SET address_space = 'lab'", []).unwrap();
    let broken = check(bed.store()).await.unwrap();
    let found: Vec<_> = broken.iter().map(|violation| violation.invariant).collect();
    assert_eq!(found, ["INV-1", "INV-4"], "{broken:#?}");
    assert!(broken[0].what.contains("address space 'lab'"), "{broken:#?}");
}

#[tokio::test]
async fn check_finds_an_answer_that_tells_of_one_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let bed = Bed::new(Sqlite::at(dir.path())).await;
    let (owner, subnet) = bed.subnet("10.0.0.0/24").await;
    let made = reservation(&subnet, &["10.0.0.1"]);
    let never = reservation(&subnet, &["10.0.0.2"]);
    let mut change = reserve(&made, &[&subnet]);
    let body = format!(r#"{{"reservations":[{{"id":"{}"}},{{"id":"{}"}}]}}"#, made.id, never.id);
    let answer = recorded("k", &format!("/pools/{}/reservations", owner.id), now());
    change.answer = Some(Recorded { revision: None, body: body.into(), ..answer });
    bed.done(change).await;
    let broken = check(bed.store()).await.unwrap();
    let found: Vec<_> = broken.iter().map(|violation| violation.invariant).collect();
    assert_eq!(found, ["INV-7"], "{broken:#?}");
}

#[tokio::test]
async fn a_file_of_version_1_is_read_with_the_defaults_of_what_it_did_not_know() {
    let dir = tempfile::tempdir().unwrap();
    let file = Connection::open(dir.path().join("ipam.db")).unwrap();
    file.execute_batch(include_str!("version_1.sql")).unwrap();
    drop(file);
    let mut bed = Bed::new(Sqlite::at(dir.path())).await;
    let contents = bed.contents().await;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let pools: Vec<_> = contents.pools.iter().map(|pool| pool.annotations.name.clone()).collect();
    assert_eq!(pools, names(&["lab é", ""]));
    assert!(contents.pools.iter().all(|pool| pool.settings == PoolSettings::default()));
    let subnets = contents.subnets.iter();
    let subnets: Vec<_> = subnets.map(|subnet| subnet.layout.addresses().to_string()).collect();
    assert_eq!(subnets, ["10.0.0.0-10.0.0.255", "2001:db8::10-2001:db8::ff"]);
    assert!(contents.subnets.iter().all(|subnet| subnet.settings == SubnetSettings::default()));
    let reservations: Vec<_> =
        contents.reservations.iter().map(|one| one.annotations.name.clone()).collect();
    assert_eq!(reservations, names(&["r", "renamed"]));
    assert!(contents.reservations.iter().all(|one| one.expires_at.is_none()));
    assert_eq!((contents.leases.len(), contents.events.len()), (4, 15));
    let revisions: Vec<_> = contents.answers.iter().map(|answer| answer.revision).collect();
    assert_eq!(revisions, [Some(1), Some(1)]);
    assert_eq!(check(bed.store()).await.unwrap(), []);

    // And goes on as one of today's.
    let (owner, subnet) = (&contents.pools[0], &contents.subnets[0]);
    let held = bed.store().reservation(contents.reservations[0].id).await.unwrap().unwrap();
    bed.done(delete_reservation(&held)).await;
    let mut moved = renamed_pool(owner, "lab é");
    moved.settings.address_space = Some("lab".to_owned());
    bed.done(update_pool(&moved)).await;
    bed.reopen().await;
    assert_eq!(bed.stored_pool(owner).await, moved);
    assert_eq!(bed.released(subnet, jiff::Timestamp::MIN).await.len(), 2);
    assert_eq!(check(bed.store()).await.unwrap(), []);
    let file = Connection::open(dir.path().join("ipam.db")).unwrap();
    let version: i64 = file.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 3);
}

#[tokio::test]
async fn a_file_of_version_2_is_read_with_the_defaults_of_what_it_did_not_know() {
    let (dir, mut bed) = laden().await;
    let before = bed.contents().await;
    bed.reopen().await;
    let file = Connection::open(dir.path().join("ipam.db")).unwrap();
    file.execute_batch(
        "DROP TABLE relays;
         ALTER TABLE pools DROP COLUMN depleted_at;
         ALTER TABLE subnets DROP COLUMN depleted_at;
         ALTER TABLE subnets DROP COLUMN depleted;
         PRAGMA user_version = 2;",
    )
    .unwrap();
    drop(file);
    bed.reopen().await;
    assert_eq!(bed.contents().await, before);
    assert_eq!(check(bed.store()).await.unwrap(), []);
    let subnet = before.subnets[0].marked(true, now());
    bed.done(update_subnet(&subnet, None)).await;
    bed.reopen().await;
    assert!(bed.contents().await.subnets[0].depleted);
    assert_eq!(check(bed.store()).await.unwrap(), []);
}

/// As a crash leaves them: the write-ahead log was not folded in.
#[tokio::test]
async fn the_files_of_a_running_store_hold_what_was_answered() {
    let (dir, bed) = laden().await;
    let copied = tempfile::tempdir().unwrap();
    for name in ["ipam.db", "ipam.db-wal"] {
        fs::copy(dir.path().join(name), copied.path().join(name)).unwrap();
    }
    let recovered = Bed::new(Sqlite::at(copied.path())).await;
    assert_eq!(recovered.contents().await, bed.contents().await);
    assert_eq!(check(recovered.store()).await.unwrap(), []);
}

#[tokio::test]
async fn nothing_is_left_of_what_was_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let bed = Bed::new(Sqlite::at(dir.path())).await;
    let marked = |name: &str| annotations(name, &["t", "u"], r#"{"k":["v","w"]}"#);
    let mut owner = pool(marked("p"));
    bed.done(create_pool(&owner)).await;
    let mut subnet = subnet_with(&owner, layout(cidr("10.0.0.0/24"), None, &[]), marked("s"));
    bed.done(create_subnet(&subnet, 0)).await;
    let held = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|text| (&subnet, text.parse().unwrap()));
    let of_leases = vec![marked("l"), marked("m"), marked("n")];
    let made = reservation_with(owner.id, None, &held, marked("r"), of_leases);
    bed.done(reserve(&made, &[&subnet])).await;
    bed.done(update_lease(&renamed_lease(&made.leases[0], "renamed"), &made)).await;
    let made = bed.store().reservation(made.id).await.unwrap().unwrap();
    let kept = keeping(&made, &[0, 2]);
    bed.done(delete_leases(&made, &kept)).await;
    bed.done(delete_reservation(&kept)).await;
    subnet = subnet.deleting(now());
    bed.done(update_subnet(&subnet, None)).await;
    bed.done(delete_subnet(&subnet)).await;
    owner = owner.deleting(now());
    bed.done(update_pool(&owner)).await;
    bed.done(delete_pool(&owner)).await;

    let file = Connection::open(dir.path().join("ipam.db")).unwrap();
    for table in ["pools", "subnets", "reservations", "leases", "labels", "released"] {
        let count = format!("SELECT count(*) FROM {table}");
        let left: i64 = file.query_row(&count, [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0, "{table}");
    }
}
