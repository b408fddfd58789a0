//! Recorded lengths and times.

use super::ScenarioError;
use crate::agenda::{Nanos, nanos};
use crate::workload::Length;

/// Largest time of a trace: a year.
const SECONDS_MAX: f64 = 366.0 * 86_400.0;

/// Largest number of tokens that a trace may have for one request.
const TOKENS_MAX: u32 = 1 << 20;

/// Reads lengths: each line ends in tokens of the prompt and tokens of the answer, separated by a
/// comma. A first line without numbers is a heading.
///
/// # Errors
///
/// If a line cannot be read, or there is none.
pub fn read_lengths(text: &str) -> Result<Vec<Length>, ScenarioError> {
    const KEY: &str = "workload.lengths";
    let expected = "end it in tokens of prompt and answer, as in 763,232";
    let parse = |line: &str| {
        let mut cells = line.rsplit(',').map(|it| it.trim().parse::<u32>().ok());
        let (output, prompt) = (cells.next()??, cells.next()??);
        let meant = |it: u32| (1..=TOKENS_MAX).contains(&it);
        (meant(prompt) && meant(output)).then_some(Length { prompt, output })
    };
    let lengths = lines(text, KEY, expected, parse)?;
    if lengths.is_empty() {
        return Err(ScenarioError::EmptyTrace { key: KEY, kind: "lengths", expected });
    }
    Ok(lengths)
}

/// Reads times: each line begins with seconds, ascending. A first line without numbers is a heading.
///
/// # Errors
///
/// If a line cannot be read or is earlier than the one before, or there is none.
pub fn read_times(text: &str) -> Result<Vec<Nanos>, ScenarioError> {
    const KEY: &str = "workload.arrivals";
    let expected = "begin it with seconds, none earlier than the line before, as in 12.5";
    let mut before = 0.0;
    let parse = |line: &str| {
        let at = line.split(',').next()?.trim().parse::<f64>().ok()?;
        let later = (before..=SECONDS_MAX).contains(&at);
        later.then(|| {
            before = at;
            nanos(at)
        })
    };
    let times = lines(text, KEY, expected, parse)?;
    if times.is_empty() {
        return Err(ScenarioError::EmptyTrace { key: KEY, kind: "times", expected });
    }
    Ok(times)
}

fn lines<T>(
    text: &str,
    key: &'static str,
    expected: &'static str,
    mut parse: impl FnMut(&str) -> Option<T>,
) -> Result<Vec<T>, ScenarioError> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|it| !it.1.trim().is_empty()) {
        match parse(line) {
            Some(it) => found.push(it),
            None if at == 0 && !line.contains(|it: char| it.is_ascii_digit()) => {}
            None => {
                let (line, text) = (at + 1, line.to_owned());
                return Err(ScenarioError::TraceLine { key, line, text, expected });
            }
        }
    }
    Ok(found)
}
