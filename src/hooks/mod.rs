//! Hooks: others who are asked over a bus before a change is made, and may say no.
//!
//! Which of them are asked ([`rule`]), what they are told ([`question`]) and what they say ([`answer`])
//! is decided without asking anybody; here they are asked. Nobody is asked in the turn of an actor: a
//! slow hook delays the requests that it is asked about, and no others.

pub mod answer;
pub mod question;
pub mod rule;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use crate::bus::{Ask, BusError, BusKind};
use crate::domain::event::Origin;
use crate::domain::pool::Pool;
use crate::domain::reservation::Reservation;
use crate::domain::subnet::Subnet;
use crate::limits::{HOOK_CHANGES_MAX, HOOKS_WAIT_MAX};
use crate::telemetry::Metrics;

use answer::{Answer, Rubbish};
use question::Matter;
use rule::{BadRule, OnSilence, Operation, Rule};

/// All hooks, in the order in which they are asked. By default there are none.
#[derive(Default)]
pub struct Hooks(Vec<Hook>);

/// One hook and the means to ask it.
struct Hook {
    rule: Rule,
    /// Its name, for metrics.
    name: Arc<str>,
    bus: Arc<dyn Ask>,
    /// Where it is asked.
    runtime: Handle,
    /// Who may ask it at once, so that it cannot use up what other requests need.
    places: Arc<Semaphore>,
    /// It did not answer, or not well, when it was last asked.
    is_failing: AtomicBool,
    metrics: Arc<Metrics>,
}

/// Why a change must not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAllowed {
    Refused {
        hook: String,
        reason: String,
    },
    /// As many changes as may wait for a hook already do.
    Crowded,
    /// The time of all hooks together was over before this one was asked. That is no silence of it.
    Late,
}

/// What a hook means.
enum Heard<T> {
    Allowed,
    Refused(String),
    Patched(T),
}

/// Why it is not known.
#[derive(Debug, thiserror::Error)]
enum NotHeard {
    #[error("{0}")]
    Silent(String),
    /// It cannot be asked this; that is no failure of its own.
    #[error("the question has {bytes} bytes, and the bus carries {bytes_max} at most")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error(transparent)]
    Rubbish(#[from] Rubbish),
}

impl Hooks {
    /// The hooks of some rules, which are asked over what `ask_of` gives. Must be called on the runtime
    /// that is to outlive the requests.
    ///
    /// # Errors
    /// [`BadRule`] when a hook is over a bus that there is not.
    pub fn new(
        rules: Vec<Rule>,
        ask_of: impl Fn(BusKind) -> Option<Arc<dyn Ask>>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, BadRule> {
        let places = HOOK_CHANGES_MAX / rules.len().max(1);
        let runtime = Handle::current();
        let hooks = rules.into_iter().map(|rule| {
            let no_bus = || BadRule {
                hook: rule.name.clone(),
                why: format!("bus: {0} is not configured; give `{0}`", rule.bus),
            };
            Ok(Hook {
                bus: ask_of(rule.bus).ok_or_else(no_bus)?,
                name: rule.name.as_str().into(),
                rule,
                runtime: runtime.clone(),
                places: Arc::new(Semaphore::new(places)),
                is_failing: AtomicBool::new(false),
                metrics: Arc::clone(metrics),
            })
        });
        hooks.collect::<Result<_, BadRule>>().map(Self)
    }

    /// Whether any hook may have to be asked about such changes.
    pub fn are_asked_about(&self, operation: Operation) -> bool {
        self.0.iter().any(|hook| hook.rule.on.contains(&operation))
    }

    /// Runs what asks on behalf of an actor, not in its turn and not on its thread.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(hook) = self.0.first() {
            hook.runtime.spawn(task);
        }
    }
}

/// All the questions of one change. It keeps a place with each hook that it asks until it is dropped.
pub struct Asking {
    hooks: Arc<Hooks>,
    /// By the places of the hooks.
    places: Vec<OnceLock<OwnedSemaphorePermit>>,
    /// All hooks together have until then.
    until: Instant,
}

impl Asking {
    pub fn new(hooks: &Arc<Hooks>) -> Self {
        Self {
            hooks: Arc::clone(hooks),
            places: hooks.0.iter().map(|_| OnceLock::new()).collect(),
            until: Instant::now() + HOOKS_WAIT_MAX,
        }
    }

    /// Takes a place with every hook that is to be asked; answers whether there is one. Waits for
    /// nothing.
    ///
    /// # Errors
    /// [`NotAllowed::Crowded`].
    pub fn enter(&self, matter: &Matter<'_>) -> Result<bool, NotAllowed> {
        let mut is_asked = false;
        for (hook, place) in self.hooks.0.iter().zip(&self.places) {
            if matter.concerns(&hook.rule) {
                hook.enter(place)?;
                is_asked = true;
            }
        }
        Ok(is_asked)
    }

    /// Asks all hooks that a change concerns, one after the other. Safe to drop.
    ///
    /// # Errors
    /// [`NotAllowed`], as the first of them says.
    pub async fn ask(&self, matter: &Matter<'_>) -> Result<(), NotAllowed> {
        let read = |answer: &[u8]| match answer::read(answer, false)? {
            Answer::Refused(reason) => Ok(Heard::Refused(reason)),
            // There is no patch without leave for one.
            Answer::Allowed | Answer::Patched(_) => Ok(Heard::<()>::Allowed),
        };
        for (hook, place) in self.hooks.0.iter().zip(&self.places) {
            if matter.concerns(&hook.rule) {
                hook.enter(place)?;
                if let Heard::Refused(reason) = hook.hear(matter, self.until, read).await? {
                    return Err(hook.refused(reason));
                }
            }
        }
        Ok(())
    }

    /// Asks all hooks that a new reservation concerns, one after the other; each is shown what those
    /// before it patched. Answers the reservation as it may be made. Safe to drop.
    ///
    /// # Errors
    /// [`NotAllowed`], as the first of them says.
    pub async fn ask_about_new(
        &self,
        mut reservation: Reservation,
        origin: &Origin,
        pool: &Pool,
        subnets: &[Arc<Subnet>],
    ) -> Result<Reservation, NotAllowed> {
        for (hook, place) in self.hooks.0.iter().zip(&self.places) {
            let mut matter = Matter::of_new(&reservation, origin, pool, subnets);
            if !matter.concerns(&hook.rule) {
                continue;
            }
            hook.enter(place)?;
            matter.propose_new(&reservation);
            let read = |answer: &[u8]| match answer::read(answer, true)? {
                Answer::Allowed => Ok(Heard::Allowed),
                Answer::Refused(reason) => Ok(Heard::Refused(reason)),
                Answer::Patched(patch) => Ok(Heard::Patched(patch.apply(&reservation)?)),
            };
            match hook.hear(&matter, self.until, read).await? {
                Heard::Allowed => {}
                Heard::Refused(reason) => return Err(hook.refused(reason)),
                Heard::Patched(patched) => {
                    drop(matter);
                    reservation = patched;
                }
            }
        }
        Ok(reservation)
    }
}

impl Hook {
    fn enter(&self, place: &OnceLock<OwnedSemaphorePermit>) -> Result<(), NotAllowed> {
        if place.get().is_none() {
            let Ok(taken) = Arc::clone(&self.places).try_acquire_owned() else {
                self.metrics.admission_refused("hook");
                return Err(NotAllowed::Crowded);
            };
            // Another question of the same change may have been quicker; then this one goes back.
            let _ = place.set(taken);
        }
        Ok(())
    }

    fn refused(&self, reason: String) -> NotAllowed {
        NotAllowed::Refused { hook: self.rule.name.clone(), reason }
    }

    /// Asks, and says what the answer means, or what it means that there is none.
    ///
    /// # Errors
    /// [`NotAllowed::Late`] when nobody was asked.
    async fn hear<T>(
        &self,
        matter: &Matter<'_>,
        until: Instant,
        read: impl FnOnce(&[u8]) -> Result<Heard<T>, Rubbish>,
    ) -> Result<Heard<T>, NotAllowed> {
        let begun = Instant::now();
        let deadline = self.rule.deadline.min(until.saturating_duration_since(begun));
        if deadline.is_zero() {
            self.metrics.admission_refused("hook");
            return Err(NotAllowed::Late);
        }
        let question = matter.question(&self.rule.name);
        let answer = self.answer(question, deadline).await;
        let heard = answer.and_then(|answer| Ok(read(&answer)?));
        let outcome = match &heard {
            Ok(Heard::Allowed) => "allowed",
            Ok(Heard::Refused(_)) => "refused",
            Ok(Heard::Patched(_)) => "patched",
            Err(NotHeard::Silent(_) | NotHeard::TooLarge { .. }) => "silent",
            Err(NotHeard::Rubbish(_)) => "rubbish",
        };
        self.metrics.hook(&self.name, outcome, begun.elapsed());
        self.tell(heard.as_ref().err());
        Ok(match (heard, self.rule.on_silence) {
            (Ok(heard), _) => heard,
            (Err(_), OnSilence::Allow) => Heard::Allowed,
            (Err(NotHeard::Silent(_) | NotHeard::TooLarge { .. }), OnSilence::Refuse) => {
                Heard::Refused("the hook did not answer".into())
            }
            (Err(NotHeard::Rubbish(_)), OnSilence::Refuse) => {
                Heard::Refused("the answer of the hook cannot be used".into())
            }
        })
    }

    async fn answer(&self, question: Bytes, deadline: Duration) -> Result<Bytes, NotHeard> {
        let silent = |why: &str| NotHeard::Silent(why.to_owned());
        let (bus, subject) = (Arc::clone(&self.bus), self.rule.subject.clone());
        let asked = async move {
            tokio::time::timeout(deadline, bus.ask(&subject, question, deadline)).await
        };
        // A connection that is made for it lives on there; the question ends when this is dropped.
        let mut asking = JoinSet::new();
        asking.spawn_on(asked, &self.runtime);
        match asking.join_next().await {
            Some(Ok(Ok(Ok(answer)))) => Ok(answer),
            Some(Ok(Ok(Err(BusError::Away(why))))) => Err(NotHeard::Silent(why)),
            Some(Ok(Ok(Err(BusError::TooLarge { bytes, bytes_max })))) => {
                Err(NotHeard::TooLarge { bytes, bytes_max })
            }
            Some(Ok(Ok(Err(BusError::Silent)) | Err(_))) => Err(silent("nobody answered")),
            Some(Err(_)) | None => Err(silent("asking it broke off")),
        }
    }

    /// Says once that it fails, and once that it no longer does; and of each question that is too large.
    fn tell(&self, error: Option<&NotHeard>) {
        let (name, on_silence) = (&self.name, self.rule.on_silence.as_str());
        if let Some(error @ NotHeard::TooLarge { bytes, bytes_max }) = error {
            tracing::warn!(hook.name = %name, hook.on_silence = on_silence, question.bytes = bytes, question.bytes_max = bytes_max, %error, "a hook cannot be asked, which counts as its silence");
            return;
        }
        let before = self.is_failing.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !before => {
                tracing::warn!(hook.name = %name, hook.on_silence = on_silence, %error, "a hook does not answer as it should");
            }
            None if before => tracing::info!(hook.name = %name, "a hook answers again"),
            _ => {}
        }
    }
}
