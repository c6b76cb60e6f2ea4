//! The cases: with every rule the path holds, without one of them it breaks in a way that is told step by step.

mod births;
mod leaving;
mod logins;
mod outages;
mod reading;
mod repairs;
mod timelines;

use super::Path;
use super::rules::{
    Adoption, Audit, Behind, Birth, CatchUp, Disposal, Doubt, Failure, Fence, Floor, Gate, LateBarrier, Leave, Local,
    LoginOrder, Order, Registration, Release, Resumed, Rules, Sweep,
};
use super::scene::{Clock, Conversation, Routing, Said, Scene};
use super::state::Budget;

/// Returns a scene of two sessions of which the first ends.
fn relay(budget: Budget) -> Scene {
    Scene { budget: Budget { logouts: 1, ..budget }, ..Scene::default() }
}

/// Returns a scene of one session that stays.
fn alone(budget: Budget) -> Scene {
    Scene { sessions: 1, budget, ..Scene::default() }
}

/// Returns all rules, with nothing that repairs but what each fault brings about itself.
fn no_audit() -> Rules {
    Rules { audit: Audit::Never, ..Rules::default() }
}

/// Returns a budget of one lost envelope.
fn one_loss() -> Budget {
    Budget { losses: 1, ..Budget::default() }
}

/// Returns a budget of nothing.
fn nothing() -> Budget {
    Budget::default()
}
