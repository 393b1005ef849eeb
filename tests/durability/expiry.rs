//! A reservation whose time is over ends, whatever its end meets first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ipam::actors::ask::Ask;
use ipam::actors::failure::Failure;
use ipam::clock::Clock;
use ipam::domain::annotations::Annotations;
use ipam::domain::end::End;
use ipam::domain::id::ReservationId;
use ipam::domain::pool::NewPool;
use ipam::domain::subnet::{Layout, NewSubnet, Span, SubnetSettings};
use ipam::limits::EXPIRY_WAIT_MAX;
use ipam::service::{Ipam, Settings};
use ipam::store::Store;
use ipam::store::change::{Batch, Effect};
use ipam::store::error::{CommitError, Fault, Refusal};
use ipam::store::query::Scope;
use ipam::store::sqlite::SqliteStore;

use crate::orders::order;
use crate::wrapped::{Wrapped, WritePath};

/// The first end of a reservation fails, after longer than a look for ends waits.
struct FailsLate {
    has_failed: AtomicBool,
}

#[async_trait]
impl WritePath for FailsLate {
    async fn commit(
        &self,
        inner: &dyn Store,
        batch: Arc<Batch>,
    ) -> Result<Vec<Result<(), Refusal>>, CommitError> {
        let ends = |effect: &Effect| matches!(effect, Effect::DeleteReservation { .. });
        let is_end = batch.changes.iter().any(|change| ends(&change.effect));
        if is_end && !self.has_failed.swap(true, Ordering::SeqCst) {
            tokio::time::sleep(EXPIRY_WAIT_MAX * 2).await;
            return Err(CommitError::NotDone(Fault::new("committing", "the disk is full")));
        }
        inner.commit(batch).await
    }
}

#[test]
fn one_whose_end_fails_late_is_ended_all_the_same() {
    actix::System::new().block_on(fails_late());
}

async fn fails_late() {
    let data = tempfile::tempdir().unwrap();
    let inner = Arc::new(SqliteStore::open(data.path()).unwrap());
    let path = FailsLate { has_failed: AtomicBool::new(false) };
    let store = Arc::new(Wrapped { inner, path });
    let settings = Settings {
        idempotency_kept: Duration::from_secs(3600),
        audit_retention: Duration::from_secs(3600),
        commit_timeout: Duration::from_secs(60),
        actor_threads: 1,
        relays: Vec::new(),
    };
    let kept = Arc::clone(&store) as Arc<dyn Store>;
    let started = Ipam::start(kept, Clock::System, Arc::default(), Arc::default(), settings);
    let ipam = started.await.unwrap();
    let pool = ipam.create_pool(NewPool::default(), Ask::default()).await.unwrap();
    let pool = pool.location.strip_prefix("/pools/").unwrap().parse().unwrap();
    let span = Span::cidr("10.0.0.0/29".parse().unwrap()).unwrap();
    let new = NewSubnet {
        annotations: Annotations::default(),
        layout: Layout::new(span, None, Vec::new()).unwrap(),
        settings: SubnetSettings::default(),
        deletion_protection: false,
    };
    ipam.create_subnet(pool, new, Ask::default()).await.unwrap();
    let mut asked = order(1);
    asked.requests[0].end = Some(End::after(1).unwrap());
    let made = ipam.reserve(Scope::Pool(pool), asked, Ask::default()).await.unwrap();
    let made: ReservationId =
        made.location.strip_prefix("/reservations/").unwrap().parse().unwrap();

    let deadline = Instant::now() + Duration::from_secs(60);
    while !matches!(ipam.reservation(made).await, Err(Failure::NotFound { .. })) {
        assert!(Instant::now() < deadline, "it is never tried again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(store.path.has_failed.load(Ordering::SeqCst), "its end failed first");
    ipam.stop().await;
}
