//! Rules: which hook is asked about what. Pure.

use std::collections::HashSet;
use std::time::Duration;

use crate::bus::BusKind;
use crate::domain::annotations::Annotations;
use crate::domain::id::PoolId;
use crate::domain::words::words;
use crate::limits::{HOOK_DEADLINE_MAX, HOOK_NAME_BYTES_MAX, HOOK_SUBJECT_BYTES_MAX, HOOKS_MAX};

words!(
    /// What a hook can be asked about. A subnet that is carved is created, too; a lease is only ever
    /// created with its reservation.
    Operation {
        PoolCreate = "pool.create",
        PoolUpdate = "pool.update",
        PoolDelete = "pool.delete",
        SubnetCreate = "subnet.create",
        SubnetUpdate = "subnet.update",
        SubnetDelete = "subnet.delete",
        ReservationCreate = "reservation.create",
        ReservationUpdate = "reservation.update",
        ReservationDelete = "reservation.delete",
        LeaseUpdate = "lease.update",
        LeaseDelete = "lease.delete",
    }
);
words!(
    /// What it means that a hook does not answer, or not in a way that can be understood.
    OnSilence { Allow = "allow", Refuse = "refuse" }
);

/// One hook as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub name: String,
    pub on: Vec<Operation>,
    /// Only in these pools; empty for all.
    pub pools: Vec<PoolId>,
    /// Only what has all of these, itself or by its pool or a subnet.
    pub tags: Vec<String>,
    pub bus: BusKind,
    /// NATS: a subject; RabbitMQ: the name of a queue.
    pub subject: String,
    /// How long it may take to answer.
    pub deadline: Duration,
    pub on_silence: OnSilence,
}

/// A rule that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hook {hook}: {why}")]
pub struct BadRule {
    /// Its name, or its place when it has none.
    pub hook: String,
    pub why: String,
}

impl Rule {
    pub fn concerns(&self, operation: Operation, pool: PoolId) -> bool {
        self.on.contains(&operation) && (self.pools.is_empty() || self.pools.contains(&pool))
    }

    /// Whether each of its tags is somewhere among those of `all`.
    pub fn selects<'a>(&self, all: impl Iterator<Item = &'a Annotations> + Clone) -> bool {
        let has = |tag| all.clone().any(|annotations| annotations.tags.contains(tag));
        self.tags.iter().all(has)
    }

    fn check(&self) -> Result<(), String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty()
            || self.name.len() > HOOK_NAME_BYTES_MAX
            || !self.name.chars().all(is_plain)
        {
            let most = HOOK_NAME_BYTES_MAX;
            return Err(format!("name: has 1 to {most} letters, digits, dots, - and _"));
        }
        if self.on.is_empty() {
            return Err("on: names no operation".into());
        }
        if let Some((place, again)) = twice(&self.on) {
            return Err(format!("on[{place}]: {again} is given twice"));
        }
        if !self.pools.is_empty() && self.on.contains(&Operation::PoolCreate) {
            return Err("pools: no pool that is created can be among them".into());
        }
        if let Some(place) = self.tags.iter().position(String::is_empty) {
            return Err(format!("tags[{place}]: is empty"));
        }
        if self.deadline.is_zero() || self.deadline > HOOK_DEADLINE_MAX {
            let most = HOOK_DEADLINE_MAX.as_secs();
            return Err(format!("deadline: is more than nothing and at most {most} seconds"));
        }
        self.check_subject()
    }

    fn check_subject(&self) -> Result<(), String> {
        let subject = &self.subject;
        if subject.is_empty() || subject.len() > HOOK_SUBJECT_BYTES_MAX {
            return Err(format!("subject: has 1 to {HOOK_SUBJECT_BYTES_MAX} bytes"));
        }
        let is_odd = |c: char| c.is_whitespace() || c.is_control();
        let is_bad = |word: &str| word.is_empty() || word == "*" || word == ">";
        match self.bus {
            BusKind::Nats if subject.contains(is_odd) || subject.split('.').any(is_bad) => {
                Err("subject: is no subject that can be asked, such as `ipam.hooks.mac`".into())
            }
            _ => Ok(()),
        }
    }
}

/// The rules, if they can be followed together.
///
/// # Errors
/// [`BadRule`] naming the hook and the key that is wrong.
pub fn checked(rules: Vec<Rule>) -> Result<Vec<Rule>, BadRule> {
    let mut names = HashSet::new();
    for (place, rule) in rules.iter().enumerate() {
        let named = if rule.name.is_empty() { format!("{}", place + 1) } else { rule.name.clone() };
        let bad = |why| BadRule { hook: named, why };
        if place == HOOKS_MAX {
            return Err(bad(format!("is one more than the {HOOKS_MAX} that can be configured")));
        }
        if !names.insert(&rule.name) {
            return Err(bad("name: another hook has it".into()));
        }
        rule.check().map_err(bad)?;
    }
    Ok(rules)
}

/// The place of the first that comes again.
fn twice(operations: &[Operation]) -> Option<(usize, Operation)> {
    let is_again =
        |(place, one): &(usize, &Operation)| operations.iter().take(*place).any(|o| o == *one);
    operations.iter().enumerate().find(is_again).map(|(place, one)| (place, *one))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A rule that every test starts from.
    pub fn rule(name: &str, on: &[Operation]) -> Rule {
        Rule {
            name: name.into(),
            on: on.to_vec(),
            pools: Vec::new(),
            tags: Vec::new(),
            bus: BusKind::Nats,
            subject: "hooks.test".into(),
            deadline: Duration::from_millis(500),
            on_silence: OnSilence::Refuse,
        }
    }

    fn tagged(tags: &[&str]) -> Annotations {
        Annotations {
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            ..Annotations::default()
        }
    }

    #[test]
    fn a_rule_concerns_its_operations_in_its_pools() {
        let [here, there] = [PoolId::generate(), PoolId::generate()];
        let all = rule("a", &[Operation::PoolUpdate, Operation::LeaseDelete]);
        assert!(all.concerns(Operation::PoolUpdate, here));
        assert!(all.concerns(Operation::LeaseDelete, there));
        assert!(!all.concerns(Operation::LeaseUpdate, here));
        let one = Rule { pools: vec![here], ..all };
        assert!(one.concerns(Operation::PoolUpdate, here));
        assert!(!one.concerns(Operation::PoolUpdate, there));
    }

    #[test]
    fn each_tag_may_be_anywhere_and_must_be_somewhere() {
        let all = [tagged(&["a"]), tagged(&[]), tagged(&["b", "c"])];
        for (tags, expected) in
            [(&[][..], true), (&["a"], true), (&["a", "c"], true), (&["a", "d"], false)]
        {
            let tags = tags.iter().map(|&tag| tag.to_owned()).collect();
            let rule = Rule { tags, ..rule("x", &[]) };
            assert_eq!(rule.selects(all.iter()), expected, "{rule:?}");
        }
        assert!(!Rule { tags: vec!["a".into()], ..rule("x", &[]) }.selects([].into_iter()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = rule("good", &[Operation::PoolCreate]);
        assert_eq!(checked(vec![good.clone()]), Ok(vec![good.clone()]));
        let amqp = Rule { bus: BusKind::Amqp, subject: "any > thing".into(), ..good.clone() };
        assert!(checked(vec![amqp]).is_ok());
        let of = |change: &dyn Fn(&mut Rule)| {
            let mut rule = good.clone();
            change(&mut rule);
            checked(vec![rule]).unwrap_err().to_string()
        };
        let long = |max: usize| "x".repeat(max + 1);
        type Spoil<'a> = &'a dyn Fn(&mut Rule);
        let cases: [(Spoil<'_>, &str); 13] = [
            (&|rule| rule.name.clear(), "hook 1: name: has 1 to"),
            (&|rule| rule.name = long(HOOK_NAME_BYTES_MAX), "name: has 1 to"),
            (&|rule| rule.name = "a b".into(), "hook a b: name: has 1 to"),
            (&|rule| rule.on.clear(), "hook good: on: names no operation"),
            (&|rule| rule.on.push(Operation::PoolCreate), "on[1]: pool.create is given twice"),
            (&|rule| rule.pools.push(PoolId::generate()), "hook good: pools: no pool"),
            (&|rule| rule.tags = vec!["a".into(), String::new()], "tags[1]: is empty"),
            (&|rule| rule.deadline = Duration::ZERO, "deadline: is more than nothing"),
            (&|rule| rule.deadline = HOOK_DEADLINE_MAX + Duration::from_nanos(1), "deadline: is"),
            (&|rule| rule.subject.clear(), "hook good: subject: has 1 to"),
            (&|rule| rule.subject = long(HOOK_SUBJECT_BYTES_MAX), "subject: has 1 to"),
            (&|rule| rule.subject = "a.*.b".into(), "subject: is no subject"),
            (&|rule| rule.subject = "a..b".into(), "subject: is no subject"),
        ];
        for (change, expected) in cases {
            let error = of(change);
            assert!(error.contains(expected), "{expected}: {error}");
        }
        let same = checked(vec![good.clone(), good.clone()]).unwrap_err().to_string();
        assert_eq!(same, "hook good: name: another hook has it");
        let many =
            (0..=HOOKS_MAX).map(|number| Rule { name: format!("h{number}"), ..good.clone() });
        let error = checked(many.collect()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("hook h{HOOKS_MAX}: is one more")), "{error}");
    }
}
