//! Random scripts of all that can be asked, on a service that is restarted and a clock that moves,
//! held against the model after every step.

use std::rc::Rc;

use futures_util::future::join_all;
use ipam::actors::ask::{Ask, Condition};
use ipam::actors::failure::Failure;
use ipam::domain::annotations::Annotations;
use ipam::domain::end::{End, EndPatch};
use ipam::domain::event::{Kind, Verb};
use ipam::domain::id::{LeaseId, ReservationId, SubnetId};
use ipam::domain::metadata::Metadata;
use ipam::domain::pool::{PoolPatch, PoolSettings, PoolSettingsPatch};
use ipam::domain::request::{Family, Order};
use ipam::domain::reservation::ReservationPatch;
use ipam::domain::strategy::Strategy;
use ipam::domain::subnet::{Layout, Span, SubnetSettings, SubnetSettingsPatch};
use ipam::store::query::{EventQuery, List, Scope};
use serde_json::Value;

use crate::judge::Case;
use crate::model::{Model, Subnet, number};
use crate::script::Author;
use crate::siege::Dice;
use crate::support::addresses;
use crate::world::{Stores, World, eventually, json};

/// Scripts run side by side: what one waits for is another's time.
const SCRIPTS: u64 = 32;
const STEPS: u64 = 150;

/// A seed may be given, to run a script again that failed.
const SEED: &str = "IPAM_TEST_SEED";

pub async fn every_answer_is_what_the_model_allows(stores: Rc<Stores>) {
    let seeds = match std::env::var(SEED) {
        Ok(seed) => vec![seed.parse().expect("a seed is a number")],
        Err(_) => (1..=if stores.is_mongo() { SCRIPTS / 4 } else { SCRIPTS }).collect(),
    };
    let scripts = seeds.into_iter().map(|seed| {
        let stores = Rc::clone(&stores);
        async move {
            let script = async move {
                let mut play = Play::begin(&stores, seed).await;
                for _ in 0..STEPS {
                    play.step().await;
                }
                play.end().await;
            };
            (seed, actix::spawn(script).await)
        }
    });
    let ended = join_all(scripts).await;
    let failed: Vec<u64> =
        ended.iter().filter(|(_, ended)| ended.is_err()).map(|(seed, _)| *seed).collect();
    assert!(failed.is_empty(), "run it again with {SEED} set to one of {failed:?}");
}

struct Play {
    seed: u64,
    world: World,
    model: Model,
    dice: Dice,
    /// All that were ever made.
    made: Vec<ReservationId>,
    /// What is known of time moving on in a subnet that takes no orders is not up to date.
    unseen: Vec<SubnetId>,
    told: Vec<String>,
}

impl Drop for Play {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let last = self.told.iter().rev().take(6).rev();
            let last: Vec<&str> = last.map(String::as_str).collect();
            eprintln!("seed {}, step {}: {}", self.seed, self.told.len(), last.join("\n"));
        }
    }
}

fn annotations(tags: &[&str]) -> Annotations {
    let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    Annotations::new(String::new(), tags, Metadata::default()).unwrap()
}

fn range(first: &str, last: &str) -> Span {
    Span::range(first.parse().unwrap(), last.parse().unwrap()).unwrap()
}

fn cidr(net: &str) -> Span {
    Span::cidr(net.parse().unwrap()).unwrap()
}

impl Play {
    async fn begin(stores: &Stores, seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let world = World::new(stores, PoolSettings::default()).await;
        let gateway = Some("10.0.1.1".parse().unwrap());
        let excluded = vec!["10.0.1.4-10.0.1.5".parse().unwrap()];
        let layouts = [
            (Layout::new(cidr("10.0.0.0/29"), None, vec![]), vec!["a"]),
            (Layout::new(cidr("10.0.1.0/28"), gateway, excluded), vec!["a", "b"]),
            (Layout::new(cidr("2001:db8::/124"), None, vec![]), vec!["b"]),
            (Layout::new(range("10.0.2.10", "10.0.2.40"), None, vec![]), vec![]),
            (Layout::new(cidr("2001:db8:1::/64"), None, vec![]), vec!["a"]),
        ];
        let mut subnets = Vec::new();
        for (layout, tags) in layouts {
            let layout = layout.unwrap();
            let settings = SubnetSettings {
                strategy: some_strategy(&mut dice),
                quarantine_seconds: dice.roll(3) as u32 * 3,
                quarantine_override: dice.roll(2) == 0,
                allocatable: true,
                depleted_at: None,
            };
            let id = world.new_subnet(layout.clone(), settings, annotations(&tags)).await;
            subnets.push(Subnet {
                id,
                family: Family::of(layout.addresses().first()),
                layout,
                tags: tags.into_iter().map(str::to_owned).collect(),
                settings,
                leased: Default::default(),
                released: Default::default(),
            });
        }
        let model = Model { strategy: None, subnets, reservations: Default::default() };
        Self { seed, world, model, dice, made: vec![], unseen: vec![], told: vec![] }
    }

    async fn step(&mut self) {
        match self.dice.roll(20) {
            0..=8 => self.order().await,
            9..=11 => self.release().await,
            12 => self.release_lease().await,
            13 => self.renew().await,
            14 => self.patch_subnet().await,
            15 => self.patch_pool().await,
            16 => self.ask_twice_by_a_key().await,
            17 | 18 => self.wait().await,
            _ => self.restart().await,
        }
        self.agree().await;
    }

    fn tell(&mut self, what: impl std::fmt::Debug) {
        self.told.push(format!("{what:?}"));
    }

    fn some_scope(&mut self) -> Scope {
        match self.dice.roll(2 * self.model.subnets.len() as u64) as usize {
            place if place < self.model.subnets.len() => {
                Scope::Subnet(self.model.subnets[place].id)
            }
            _ => Scope::Pool(self.world.pool),
        }
    }

    async fn order(&mut self) {
        let (scope, now) = (self.some_scope(), self.world.now());
        let mut author = Author { dice: &mut self.dice, model: &self.model, scope, now };
        let order = author.order();
        self.place(scope, order).await;
    }

    /// Asks, and holds the answer against the model.
    async fn place(&mut self, scope: Scope, order: Order) -> (Vec<ReservationId>, Option<Value>) {
        let answer = self.world.order(scope, order.clone()).await;
        self.tell((scope, &order, answer.as_ref().map(brief)));
        let case = Case { scope, order: &order, now: self.world.now() };
        let made = case.judge(&mut self.model, &answer);
        self.made.extend(&made);
        (made, answer.ok())
    }

    fn some_reservation(&mut self) -> Option<ReservationId> {
        let count = self.model.reservations.len() as u64;
        let place = (count > 0).then(|| self.dice.roll(count) as usize)?;
        self.model.reservations.keys().nth(place).copied()
    }

    fn some_lease(&mut self) -> Option<LeaseId> {
        let id = self.some_reservation()?;
        let leases = &self.model.reservations[&id].leases;
        Some(leases[self.dice.roll(leases.len() as u64) as usize].0)
    }

    async fn release(&mut self) {
        let Some(id) = self.some_reservation() else { return };
        self.tell(("release", id));
        self.world.ipam.delete_reservation(id, Ask::default()).await.unwrap();
        self.model.end(id, self.world.now());
    }

    async fn release_lease(&mut self) {
        let Some(id) = self.some_lease() else { return };
        self.tell(("release", id));
        self.world.ipam.delete_lease(id, Ask::default()).await.unwrap();
        self.model.end_lease(id, self.world.now());
        let gone = self.world.ipam.lease(id).await;
        assert!(matches!(gone, Err(Failure::NotFound { .. })), "{gone:?}");
    }

    async fn renew(&mut self) {
        let Some(id) = self.some_reservation() else { return };
        let now = self.world.now();
        let scope = Scope::Pool(self.world.pool);
        let seconds = Author { dice: &mut self.dice, model: &self.model, scope, now }.seconds();
        let end = match self.dice.roll(3) {
            0 => EndPatch::Never,
            1 => EndPatch::Becomes(End::After(seconds)),
            _ => EndPatch::Becomes(End::At(now + seconds)),
        };
        let current = self.world.ipam.reservation(id).await.unwrap();
        let revision = current.revision.unwrap();
        let patch = ReservationPatch { end, ..ReservationPatch::default() };
        let on = |revision| Ask { condition: Condition::OneOf(vec![revision]), ..Ask::default() };
        let stale = self.world.ipam.patch_reservation(id, patch.clone(), on(revision + 1)).await;
        assert!(matches!(stale, Err(Failure::PreconditionFailed { .. })), "{stale:?}");
        let renewed = self.world.ipam.patch_reservation(id, patch, on(revision)).await.unwrap();
        let held = self.model.reservations.get_mut(&id).unwrap();
        held.expires_at = end.resolve(held.expires_at, now).unwrap();
        let said = json(&renewed)["expires_at"].as_str().map(|time| time.parse().unwrap());
        assert_eq!(said, held.expires_at);
        self.tell(("renew", id, end));
    }

    async fn patch_subnet(&mut self) {
        let place = self.dice.roll(self.model.subnets.len() as u64) as usize;
        let patch = match self.dice.roll(4) {
            0 => SubnetSettingsPatch {
                strategy: Some(some_strategy(&mut self.dice)),
                ..SubnetSettingsPatch::default()
            },
            1 => SubnetSettingsPatch {
                quarantine_seconds: Some(Some(self.dice.roll(5) * 2)),
                ..SubnetSettingsPatch::default()
            },
            2 => SubnetSettingsPatch {
                quarantine_override: Some(Some(self.dice.roll(2) == 0)),
                ..SubnetSettingsPatch::default()
            },
            // Closed for a third of the time.
            _ => SubnetSettingsPatch {
                allocatable: Some(Some(self.dice.roll(3) > 0)),
                ..SubnetSettingsPatch::default()
            },
        };
        let subnet = &mut self.model.subnets[place];
        subnet.settings = subnet.settings.patched(patch).unwrap();
        let id = subnet.id;
        self.world.patch_settings(id, patch).await;
        self.unseen.retain(|unseen| *unseen != id);
        self.tell(("patch", id, patch));
    }

    async fn patch_pool(&mut self) {
        let strategy = some_strategy(&mut self.dice);
        let settings =
            PoolSettingsPatch { strategy: Some(strategy), ..PoolSettingsPatch::default() };
        let patch = PoolPatch { settings, ..PoolPatch::default() };
        self.world.ipam.patch_pool(self.world.pool, patch, Ask::default()).await.unwrap();
        self.model.strategy = strategy;
        self.tell(("pool by", strategy));
    }

    /// The same key finds the same addresses while they are free.
    async fn ask_twice_by_a_key(&mut self) {
        let (scope, now) = (self.some_scope(), self.world.now());
        let mut author = Author { dice: &mut self.dice, model: &self.model, scope, now };
        let mut request = author.request();
        if matches!(request.wanted, ipam::domain::request::Wanted::Exactly(_)) {
            return;
        }
        request.choice.strategy = None;
        request.choice.affinity = Some("the same".into());
        let requests = vec![request];
        let proposed = Order { requests, is_list: false, dry_run: true };
        let order = Order { dry_run: false, ..proposed.clone() };
        let (_, proposed) = self.place(scope, proposed).await;
        let (made, granted) = self.place(scope, order).await;
        let found = |answer: &Option<Value>| -> Vec<Value> {
            let leases = answer.iter().flat_map(|answer| answer["leases"].as_array().unwrap());
            leases.map(|lease| lease["address"].clone()).collect()
        };
        assert_eq!(found(&proposed), found(&granted), "what was proposed is granted");
        for id in made {
            self.world.ipam.delete_reservation(id, Ask::default()).await.unwrap();
            self.model.end(id, self.world.now());
        }
    }

    /// Time passes; what has ended is ended by the service.
    async fn wait(&mut self) {
        let seconds = 1 + self.dice.roll(5) as i64;
        self.tell(("wait", seconds));
        self.world.wait(seconds);
        self.time_has_passed().await;
    }

    async fn restart(&mut self) {
        let seconds = self.dice.roll(5) as i64;
        self.tell(("restart", seconds));
        self.world.restart(seconds).await;
        self.time_has_passed().await;
    }

    async fn time_has_passed(&mut self) {
        let now = self.world.now();
        for id in self.model.due(now) {
            let ipam = &self.world.ipam;
            eventually(async || match ipam.reservation(id).await {
                Err(Failure::NotFound { .. }) => None,
                other => Some(format!("its time is over: {other:?}")),
            })
            .await;
            self.model.end(id, now);
        }
        for subnet in &self.model.subnets {
            if subnet.settings.allocatable {
                self.world.see(subnet.id).await;
            } else {
                self.unseen.push(subnet.id);
            }
        }
    }

    /// The service says of all subnets what the model does.
    async fn agree(&self) {
        let now = self.world.now();
        eventually(async || {
            for subnet in &self.model.subnets {
                let (reserved, resting, free) = subnet.usage(now);
                let usage = self.world.usage(subnet.id).await;
                let said = |member: &str| usage[member].to_string().parse::<u128>().unwrap();
                let (is_seen, left) = (!self.unseen.contains(&subnet.id), resting + free);
                let agrees = said("reserved") == reserved
                    && said("quarantined") + said("free") == left
                    && (said("free") == free || !is_seen);
                if !agrees {
                    return Some(format!("{usage}: {reserved}, {resting}, {free}"));
                }
            }
            None
        })
        .await;
    }

    async fn end(mut self) {
        // The reservations that are there are those of the model, as they were made.
        let scope = Scope::Pool(self.world.pool);
        let page = self.world.store.reservations(scope, List::first(1000)).await.unwrap();
        assert_eq!(page.items.len(), self.model.reservations.len());
        for found in page.items {
            let held = &self.model.reservations[&found.id];
            assert_eq!(found.expires_at, held.expires_at);
            let leases = found.leases.iter();
            let leases: Vec<_> =
                leases.map(|lease| (lease.id, lease.subnet, number(lease.address))).collect();
            assert_eq!(leases, held.leases);
        }
        for place in 0..self.made.len() {
            self.assert_told(self.made[place]).await;
        }
        self.world.ipam.stop().await;
        let violations = ipam::store::audit::check(self.world.store.clone()).await.unwrap();
        assert!(violations.is_empty(), "{violations:?}");
        self.told.push("ended".into());
    }

    /// A reservation has one event for its creation, and one for its end if it has ended.
    async fn assert_told(&self, id: ReservationId) {
        let query =
            EventQuery { resource: Some(id.to_string()), limit: 1000, ..EventQuery::default() };
        let events = self.world.store.events(query).await.unwrap().items;
        let verbs = |wanted: &[Verb]| {
            let of_kind = events.iter().filter(|logged| logged.event.kind == Kind::Reservation);
            of_kind.filter(|logged| wanted.contains(&logged.event.verb)).count()
        };
        assert_eq!(verbs(&[Verb::Created]), 1);
        let ended = usize::from(!self.model.reservations.contains_key(&id));
        assert_eq!(verbs(&[Verb::Deleted, Verb::Expired]), ended);
    }
}

/// The addresses that an answer gives.
fn brief(answer: &Value) -> Vec<String> {
    match answer["reservations"].as_array() {
        Some(list) => list.iter().flat_map(brief).collect(),
        None => addresses(answer),
    }
}

fn some_strategy(dice: &mut Dice) -> Option<Strategy> {
    Strategy::ALL.get(dice.roll(6) as usize).copied()
}
