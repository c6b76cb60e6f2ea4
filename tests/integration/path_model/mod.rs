//! A model of the message path, small enough that every interleaving of it can be walked: one conversation, senders on
//! other nodes, a lossy bus, and one node with up to two sessions of one user.
//!
//! In every state each session has got the messages of others once and in order, without a hole. Where nothing moves
//! any more each live session has everything. Each rule of the path is a switch in `rules`; the `cases` show that the
//! path holds with all of them, and by which steps it breaks without any one of them. A change of the message path
//! begins here.
//!
//! Nothing here uses the library: the model says what the code is to do, in steps that the code takes between two
//! points at which another task may run. To read an interleaving:
//!
//! ```text
//! cargo test --test integration path_model::cases::logins -- --nocapture --test-threads 1
//! ```

mod cases;
mod checker;
mod outbox;
mod rules;
mod scene;
mod state;
mod steps;
mod timeline;

use checker::{Verdict, check};
use rules::Rules;
use scene::Scene;

/// The path that is modelled: which rules it keeps, and in which scene.
#[derive(Debug, Clone, Copy, Default)]
struct Path {
    rules: Rules,
    scene: Scene,
}

impl Path {
    /// Walks every state and expects none to be bad.
    fn holds(self) {
        let verdict = check(&self);
        println!("{verdict}");
        assert!(matches!(verdict, Verdict::Holds { .. }), "{verdict}");
    }

    /// Expects a bad state, and these steps in this order on the shortest way to it.
    fn breaks(self, expected: &str, decisive: &[&str]) {
        let verdict = check(&self);
        println!("{verdict}");
        let Verdict::Broken { why, interleaving } = &verdict else {
            panic!("the rule makes no difference: it {verdict}")
        };
        assert!(why.contains(expected), "another end than {expected:?}: {verdict}");
        let mut steps = interleaving.iter();
        for part in decisive {
            assert!(steps.any(|step| step.contains(part)), "{part:?} does not come, or not in this order: {verdict}");
        }
    }
}
