//! Ends text at the first stop string, however tokens cut it.

/// Watches a growing text for stop strings.
///
/// Text that may be the start of a stop string is held back until it is known not to be, so that
/// what was once released never has to be taken back.
#[derive(Debug)]
pub(super) struct Cut {
    stops: Vec<String>,
    held: String,
    keep: Keep,
}

/// What happens to the stop string itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Keep {
    /// The text ends before it.
    Drop,
    /// The text ends with it.
    Include,
}

/// Text released by [`Cut::push`].
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Released {
    /// More may follow.
    Open(String),
    /// A stop string was found; this is the end of the text, and nothing may be pushed any more.
    Stopped(String),
}

impl Cut {
    /// Creates a watch for `stops`; empty strings are left out, since they would stop everything.
    pub(super) fn new(stops: Vec<String>, keep: Keep) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self { stops, held: String::new(), keep }
    }

    /// Takes more text and returns what can be shown.
    pub(super) fn push(&mut self, text: &str) -> Released {
        self.held.push_str(text);
        if let Some((at, stop)) = self.first_stop() {
            let end = if self.keep == Keep::Include { at + stop } else { at };
            self.held.truncate(end);
            return Released::Stopped(std::mem::take(&mut self.held));
        }
        let certain = self.held.len() - self.undecided();
        Released::Open(self.held.drain(..certain).collect())
    }

    /// Returns what was held back: no stop string can be completed any more.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Returns offset and length of the stop string that starts first; of several, the shortest,
    /// because it was complete first.
    fn first_stop(&self) -> Option<(usize, usize)> {
        let found = |stop: &String| Some((self.held.find(stop.as_str())?, stop.len()));
        self.stops.iter().filter_map(found).min()
    }

    /// Returns the length of the longest end of the held text that a stop string starts with.
    fn undecided(&self) -> usize {
        let longest = |stop: &String| {
            let starts = stop.char_indices().map(|(at, _)| at).skip(1).collect::<Vec<_>>();
            starts.into_iter().rev().find(|&length| self.held.ends_with(&stop[..length]))
        };
        self.stops.iter().filter_map(longest).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes pieces and returns everything released, and whether a stop was found.
    fn run(stops: &[&str], keep: Keep, pieces: &[&str]) -> (Vec<String>, &'static str) {
        let mut cut = Cut::new(stops.iter().map(ToString::to_string).collect(), keep);
        let mut released = Vec::new();
        for piece in pieces {
            match cut.push(piece) {
                Released::Open(text) => released.push(text),
                Released::Stopped(text) => {
                    released.push(text);
                    return (released, "stopped");
                }
            }
        }
        released.push(cut.finish());
        (released, "open")
    }

    fn check(stops: &[&str], pieces: &[&str], expected: &[&str], end: &'static str) {
        let (released, found) = run(stops, Keep::Drop, pieces);
        assert_eq!((released, found), (expected.iter().map(ToString::to_string).collect(), end));
    }

    #[test]
    fn stop_split_over_pieces_is_found_and_never_shown() {
        check(&["END"], &["one E", "N", "D two"], &["one ", "", ""], "stopped");
        check(&["\n\n"], &["a\n", "\nb"], &["a", ""], "stopped");
        check(&["é!"], &["caf", "é", "!x"], &["caf", "", ""], "stopped");
    }

    #[test]
    fn start_of_a_stop_is_released_once_it_is_none() {
        check(&["END"], &["E", "N", "X"], &["", "", "ENX", ""], "open");
        check(&["aab"], &["aaa", "b"], &["a", ""], "stopped");
        check(&["END"], &["EN"], &["", "EN"], "open");
    }

    #[test]
    fn earliest_stop_wins() {
        check(&["two", "one"], &["zero one two"], &["zero "], "stopped");
        check(&["", "x"], &["ax"], &["a"], "stopped");
    }

    #[test]
    fn stop_can_be_kept() {
        let (released, end) = run(&["END"], Keep::Include, &["a E", "ND b"]);
        assert_eq!((released.concat().as_str(), end), ("a END", "stopped"));
    }

    #[test]
    fn text_without_stops_passes_at_once() {
        check(&[], &["a", "b"], &["a", "b", ""], "open");
    }
}
