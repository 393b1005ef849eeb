use std::sync::Arc;

use ipam::domain::pool::Pool;
use ipam::store::audit::check;
use ipam::store::change::{Change, Recorded, RequestKey};
use ipam::store::error::Refusal;
use jiff::Timestamp;

use crate::support::{
    Bed, annotations, batch, create_pool, now, pool, reservation, reserve_all, seconds,
};

fn new_pool() -> Pool {
    pool(annotations("", &[], "null"))
}

fn recorded(key: &str, pool: &Pool, at: Timestamp) -> Recorded {
    crate::support::recorded(key, &format!("/pools/{}", pool.id), at)
}

fn keyed(key: &str, pool: &Pool, at: Timestamp) -> Change {
    Change { answer: Some(recorded(key, pool, at)), ..create_pool(pool) }
}

async fn answer(bed: &Bed, key: &str, since: Timestamp) -> Option<Recorded> {
    let request = RequestKey { key: key.to_owned(), fingerprint: [0; 32] };
    bed.store().answer(request, since).await.unwrap()
}

pub async fn an_answer_is_recorded_with_its_change(bed: &mut Bed) {
    let pool = new_pool();
    assert_eq!(answer(bed, "k", Timestamp::MIN).await, None);
    bed.done(keyed("k", &pool, now())).await;
    bed.reopen().await;
    // Found by its key alone: the caller compares what was asked.
    assert_eq!(answer(bed, "k", now()).await, Some(recorded("k", &pool, now())));
    assert_eq!(answer(bed, "k", now() + seconds(1)).await, None);
    assert_eq!(answer(bed, "other", Timestamp::MIN).await, None);
}

pub async fn a_key_is_answered_once(bed: &mut Bed) {
    let first = new_pool();
    let (second, third) = (new_pool(), new_pool());
    let verdicts = bed.commit(vec![keyed("k", &first, now()), keyed("k", &second, now())]).await;
    assert_eq!(verdicts, [Ok(()), Err(Refusal::Answered)]);
    assert_eq!(bed.refused(keyed("k", &third, now())).await, Refusal::Answered);
    // Whatever else would refuse it: the request has its answer.
    assert_eq!(bed.refused(keyed("k", &first, now())).await, Refusal::Answered);
    assert_eq!(answer(bed, "k", now()).await, Some(recorded("k", &first, now())));
}

pub async fn an_old_answer_makes_room(bed: &mut Bed) {
    let (first, second, third) = (new_pool(), new_pool(), new_pool());
    bed.done(keyed("k", &first, now())).await;
    let commit = async |since: Timestamp, change: Change| {
        let mut batch = batch(now(), vec![change]);
        Arc::get_mut(&mut batch).unwrap().answers_since = since;
        bed.store().commit(batch).await.unwrap().remove(0)
    };
    // What `answer` shows is what a commit respects.
    assert!(answer(bed, "k", now()).await.is_some());
    assert_eq!(commit(now(), keyed("k", &second, now())).await, Err(Refusal::Answered));
    let later = now() + seconds(1);
    assert!(answer(bed, "k", later).await.is_none());
    assert_eq!(commit(later, keyed("k", &third, later)).await, Ok(()));
    assert_eq!(answer(bed, "k", later).await, Some(recorded("k", &third, later)));
}

pub async fn old_answers_are_forgotten_in_steps(bed: &mut Bed) {
    for age in 0..5 {
        let key = age.to_string();
        bed.done(keyed(&key, &new_pool(), now() - seconds(age))).await;
    }
    let forget = async |limit| bed.store().forget_answers(now() - seconds(1), limit).await.unwrap();
    assert_eq!(forget(2).await, 2);
    assert!(answer(bed, "4", Timestamp::MIN).await.is_none(), "the oldest go first");
    assert_eq!(forget(2).await, 1);
    assert_eq!(forget(2).await, 0);
    assert!(answer(bed, "1", Timestamp::MIN).await.is_some());
    bed.done(keyed("4", &new_pool(), now())).await;
}

pub async fn an_answer_may_speak_of_several_reservations(bed: &mut Bed) {
    let (_, subnet) = bed.subnet("10.0.0.0/24").await;
    let made = [reservation(&subnet, &["10.0.0.1"]), reservation(&subnet, &["10.0.0.2"])];
    let of_list = |body: String| Recorded {
        location: format!("/subnets/{}/reservations", subnet.id),
        revision: None,
        body: body.into(),
        ..recorded("k", &new_pool(), now())
    };
    let [first, second] = made.each_ref().map(|one| one.id);
    let body = format!(r#"{{"reservations":[{{"id":"{first}","name":""}},{{"id":"{second}"}}]}}"#);
    let written = of_list(body);
    let change = reserve_all(&made, &[&subnet]);
    bed.done(Change { answer: Some(written.clone()), ..change }).await;
    bed.reopen().await;
    assert_eq!(answer(bed, "k", now()).await, Some(written.clone()));
    assert_eq!(bed.store().answers(None, 9).await.unwrap().items, [written]);
    assert_eq!(check(bed.store()).await.unwrap(), []);
}
