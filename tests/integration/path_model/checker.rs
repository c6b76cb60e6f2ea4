//! Walks every state that a model can come to, the nearest first, and finds the shortest way to a bad one.

use std::collections::HashSet;
use std::fmt::{self, Arguments, Debug, Display, Formatter};
use std::hash::Hash;

/// A model that comes to more states than this is too large to be walked in a test.
const MOST_STATES: usize = 2_000_000;

/// Something that moves in steps.
pub(super) trait Model {
    /// Everything that matters for what comes next.
    type State: Copy + Eq + Hash;

    /// Returns the state in which it begins.
    fn initial(&self) -> Self::State;

    /// Names every step that can be taken from a state.
    fn steps(&self, state: &Self::State, steps: &mut Steps<'_, Self::State>);

    /// Tells what must never be, if it is.
    fn wrong(&self, state: &Self::State) -> Option<String>;

    /// Tells what must not be when nothing moves any more, if it is.
    fn unfinished(&self, state: &Self::State) -> Option<String>;
}

/// Takes the steps from one state.
pub(super) struct Steps<'a, S> {
    take: &'a mut dyn FnMut(bool, Arguments<'_>, S),
}

impl<S> Steps<'_, S> {
    /// Names a step that is taken sooner or later, unless another comes first.
    pub(super) fn will(&mut self, name: Arguments<'_>, to: S) {
        (self.take)(true, name, to);
    }

    /// Names a step that may never be taken: a fault, or what a person does.
    pub(super) fn may(&mut self, name: Arguments<'_>, to: S) {
        (self.take)(false, name, to);
    }
}

/// What the walk has found.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Every state was seen, and none is bad.
    Holds {
        /// How many.
        states: usize,
    },
    /// There is a bad state.
    Broken {
        /// What is bad about it.
        why: String,
        /// The shortest way to it, step by step.
        interleaving: Vec<String>,
    },
    /// There are more states than can be walked.
    TooLarge,
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds { states } => write!(f, "holds in each of {states} states"),
            Self::TooLarge => write!(f, "has more than {MOST_STATES} states: too large to be walked"),
            Self::Broken { why, interleaving } => {
                write!(f, "broken, {why}, after {} steps:", interleaving.len())?;
                interleaving.iter().try_for_each(|step| write!(f, "\n    {step}"))
            }
        }
    }
}

impl Debug for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// Walks a model.
pub(super) fn check<M: Model>(model: &M) -> Verdict {
    let mut walk = Walk { model, found: Vec::new(), known: HashSet::new() };
    walk.note(model.initial(), 0);
    let (mut at, mut onward) = (0, Vec::new());
    while at < walk.found.len() {
        let state = walk.found[at].0;
        let mut rests = true;
        let mut take = |will: bool, _: Arguments<'_>, to: M::State| {
            if to != state {
                rests &= !will;
                onward.push(to);
            }
        };
        model.steps(&state, &mut Steps { take: &mut take });
        let bad = model.wrong(&state).or_else(|| if rests { model.unfinished(&state) } else { None });
        if let Some(why) = bad {
            return Verdict::Broken { why, interleaving: walk.way_to(at) };
        }
        onward.drain(..).for_each(|to| walk.note(to, at));
        if walk.found.len() > MOST_STATES {
            return Verdict::TooLarge;
        }
        at += 1;
    }
    Verdict::Holds { states: at }
}

struct Walk<'a, M: Model> {
    model: &'a M,
    /// Every state, in the order in which it was found, and from which one.
    found: Vec<(M::State, usize)>,
    known: HashSet<M::State>,
}

impl<M: Model> Walk<'_, M> {
    fn note(&mut self, state: M::State, from: usize) {
        if self.known.insert(state) {
            self.found.push((state, from));
        }
    }

    /// Names the steps to a state. They are not kept while walking: only few are ever asked for.
    fn way_to(&self, mut at: usize) -> Vec<String> {
        let mut way = Vec::new();
        while at > 0 {
            let (state, from) = self.found[at];
            let mut step = None;
            let mut take = |_: bool, name: Arguments<'_>, to: M::State| {
                if to == state {
                    step.get_or_insert_with(|| name.to_string());
                }
            };
            self.model.steps(&self.found[from].0, &mut Steps { take: &mut take });
            way.push(step.expect("this state was found by a step from there"));
            at = from;
        }
        way.reverse();
        way
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts up in ones and twos, and may be set back.
    struct Counter {
        last: u8,
        bad: u8,
    }

    impl Model for Counter {
        type State = u8;

        fn initial(&self) -> u8 {
            0
        }

        fn steps(&self, state: &u8, steps: &mut Steps<'_, u8>) {
            if *state < self.last {
                steps.will(format_args!("one more"), state + 1);
                steps.will(format_args!("two more"), (state + 2).min(self.last));
            }
            steps.may(format_args!("back to nothing"), 0);
        }

        fn wrong(&self, state: &u8) -> Option<String> {
            (*state == self.bad).then(|| format!("it is {state}"))
        }

        fn unfinished(&self, state: &u8) -> Option<String> {
            (*state != 9).then(|| format!("it rests at {state}"))
        }
    }

    #[test]
    fn the_shortest_way_to_a_bad_state_is_told_step_by_step() {
        let Verdict::Broken { why, interleaving } = check(&Counter { last: 9, bad: 3 }) else { panic!("3 is bad") };
        assert_eq!(why, "it is 3");
        assert_eq!(interleaving, ["one more", "two more"]);
    }

    #[test]
    fn what_may_happen_does_not_keep_the_world_from_coming_to_rest() {
        let Verdict::Broken { why, interleaving } = check(&Counter { last: 4, bad: 99 }) else { panic!("4 is no end") };
        assert_eq!((why.as_str(), interleaving.len()), ("it rests at 4", 2));
    }

    #[test]
    fn a_model_without_bad_states_is_walked_to_the_end() {
        assert_eq!(check(&Counter { last: 9, bad: 99 }), Verdict::Holds { states: 10 });
    }
}
