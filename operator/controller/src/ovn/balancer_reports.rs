//! How was each LoadBalancer written, and which of its members answer? For the loop that says so in its status.

use std::sync::{Mutex, MutexGuard, PoisonError};

use virga_core::load_balancer::{Check, Health, Seen};

use super::{gateways::Answers, written::Written};

/// What was last written of each, and heard of their members.
#[derive(Default)]
pub struct BalancerReports {
    /// What was written.
    pub written: Written<Seen>,
    answers: Mutex<Answers>,
}

impl BalancerReports {
    /// What came of asking a member.
    pub fn health(&self, check: &Check) -> Option<Health> {
        self.lock().get(check).copied()
    }

    /// This came of asking the members. Those are woken whose members say something else than before.
    pub(super) fn set_answers(&self, answers: &Answers) {
        let old = std::mem::replace(&mut *self.lock(), answers.clone());
        let differs = |check: &Check| old.get(check) != answers.get(check);
        self.written.wake_those(|seen| {
            let mut checks = seen.members.iter().flat_map(|member| &member.checks);
            checks.any(differs)
        });
    }

    fn lock(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
