//! Rows that belong together stay together.

use super::*;

/// A row of request `counter` at `position`, one of `frames` of the sender's step.
fn row(rig: &mut Rig, counter: u64, position: u32, frames: u32) -> Event {
    let Event::Activations { from, mut activations, tensor } = rig.rows(position, 1, true) else {
        unreachable!("rows are activations")
    };
    activations.request = id(counter);
    activations.step_frames = frames;
    Event::Activations { from, activations, tensor }
}

#[test]
fn rows_computed_together_are_waited_for_half_a_step() {
    let mut rig = Rig::new(4, 8);
    for counter in 1..=2 {
        assert_eq!(rig.on(open(counter, &LAST, 1, 4)), []);
    }
    let rows = row(&mut rig, 1, 0, 2);
    let effects = rig.at(0, rows);
    assert_eq!(step(&effects).len(), 1, "nothing is known of how long a step takes");
    let rows = row(&mut rig, 2, 0, 2);
    assert_eq!(rig.at(0, rows), []);
    rig.stage.handle(Duration::from_secs(8), Event::StepDone { outputs: sampled(1) });
    assert_eq!(step(&rig.drain()).len(), 1);
    rig.stage.handle(Duration::from_secs(16), Event::StepDone { outputs: sampled(1) });
    rig.drain();

    let rows = row(&mut rig, 1, 1, 2);
    assert_eq!(rig.at(20, rows), [], "another of the same step is under way");
    assert_eq!(rig.stage.next_timeout(), Some(Duration::from_secs(24)), "half of 8 s");
    let rows = row(&mut rig, 2, 1, 2);
    assert_eq!(step(&rig.at(21, rows)).len(), 2);
    rig.stage.handle(Duration::from_secs(29), Event::StepDone { outputs: sampled(2) });
    rig.drain();

    let rows = row(&mut rig, 1, 2, 2);
    assert_eq!(rig.at(40, rows), []);
    rig.stage.handle_timeout(Duration::from_secs(44));
    assert_eq!(step(&rig.drain()).len(), 1, "what does not come is not waited for");
}

fn sampled(count: usize) -> Vec<StepOutput> {
    vec![StepOutput::Sampled { sampled: candidate(5), top: vec![] }; count]
}

#[test]
fn a_first_stage_lets_no_small_group_go() {
    let mut rig = Rig::new(0, 4);
    for counter in 1..=4 {
        rig.at(0, open(counter, &FIRST, 1, 8));
        let outputs = vec![StepOutput::Rows(rig.tensor())];
        rig.at(counter, Event::StepDone { outputs });
    }
    let mut token_at = |second, counter| {
        let Event::Token(mut token) = token(1, None) else { unreachable!("a token is one") };
        token.request = id(counter);
        rig.at(second, Event::Token(token))
    };
    // With four that decode over two stages a group has two; so many are known only at the fourth.
    let steps = [1, 2, 3, 4].map(|counter| token_at(10 + counter, counter).len());
    assert_eq!(steps, [1, 0, 0, 0]);
    let outputs = vec![StepOutput::Rows(rig.tensor())];
    let effects = rig.at(20, Event::StepDone { outputs });
    assert_eq!(step(&effects).len(), 2, "of the three that wait, no more than the bound");
    let outputs = vec![StepOutput::Rows(rig.tensor()), StepOutput::Rows(rig.tensor())];
    let effects = rig.at(21, Event::StepDone { outputs });
    assert!(!effects.iter().any(|it| matches!(it, Effect::Step(_))), "one waits for another");
    let until = rig.stage.next_timeout().expect("but not for ever");
    rig.stage.handle_timeout(until);
    assert_eq!(step(&rig.drain()).len(), 1);
}
