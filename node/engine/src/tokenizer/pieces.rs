//! SentencePiece vocabularies with scores: merge the best-scored neighbours until none is a piece.
//!
//! GGUF files store pieces and scores but no list of merges. The algorithm is SentencePiece's own
//! for its BPE models: of all adjacent pairs whose concatenation is a piece, merge the one with the
//! highest score, the leftmost of equals. A character that is no piece becomes its bytes.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use super::spelling::{Spelling, bytes_of, escape_spaces, single_byte};

/// What a token of the vocabulary is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    /// A piece of text.
    Text,
    /// Found in the text before anything else and kept whole.
    Whole,
    /// One byte.
    Byte,
    /// Stands for what has no token.
    Unknown,
}

/// A vocabulary of pieces.
#[derive(Debug)]
pub(super) struct Pieces {
    texts: Vec<Box<str>>,
    scores: Vec<f32>,
    ids: HashMap<Box<str>, u32>,
    /// Tokens kept whole, by first byte, longest first.
    whole: BTreeMap<u8, Vec<u32>>,
    /// Token of every byte, where there is one.
    bytes: [Option<u32>; 256],
    unknown: u32,
    space_before: bool,
}

impl Pieces {
    /// Makes a vocabulary of (text, score, role), in order of id. `unknown` stands for bytes without
    /// token; `space_before` puts a space before the text and after each token kept whole.
    pub(super) fn new<'a>(
        tokens: impl Iterator<Item = (&'a str, f32, Role)>,
        unknown: u32,
        space_before: bool,
    ) -> Self {
        let (texts, scores, ids) = (Vec::new(), Vec::new(), HashMap::new());
        let (whole, bytes) = (BTreeMap::new(), [None; 256]);
        let mut this = Self { texts, scores, ids, whole, bytes, unknown, space_before };
        for (id, (text, score, role)) in (0..).zip(tokens) {
            this.add(id, text, score, role);
        }
        let texts = &this.texts;
        for candidates in this.whole.values_mut() {
            candidates.sort_by_key(|&id| std::cmp::Reverse(texts[id as usize].len()));
        }
        this
    }

    fn add(&mut self, id: u32, text: &str, score: f32, role: Role) {
        self.texts.push(text.into());
        self.scores.push(score);
        match role {
            Role::Text => {
                self.ids.entry(text.into()).or_insert(id);
            }
            Role::Whole => {
                if let Some(&first) = text.as_bytes().first() {
                    self.whole.entry(first).or_default().push(id);
                }
            }
            Role::Byte => {
                if let Some(byte) = single_byte(text) {
                    self.bytes[usize::from(byte)] = Some(id);
                }
            }
            Role::Unknown => {}
        }
    }

    /// Appends the tokens of `text` to `out`.
    pub(super) fn encode(&self, text: &str, out: &mut Vec<u32>) {
        let (mut start, mut at) = (0, 0);
        while at < text.len() {
            let Some(id) = self.whole_at(&text[at..]) else {
                at += text[at..].chars().next().map_or(1, char::len_utf8);
                continue;
            };
            self.encode_plain(&text[start..at], out);
            out.push(id);
            at += self.texts[id as usize].len();
            start = at;
        }
        self.encode_plain(&text[start..], out);
    }

    /// Bytes a token stands for.
    pub(super) fn bytes(&self, id: u32) -> Vec<u8> {
        let text = self.texts.get(id as usize);
        text.map_or(Vec::new(), |text| bytes_of(text, Spelling::Pieces, false))
    }

    /// The longest token kept whole that `text` starts with.
    fn whole_at(&self, text: &str) -> Option<u32> {
        let candidates = self.whole.get(text.as_bytes().first()?)?;
        candidates.iter().copied().find(|&id| text.starts_with(&*self.texts[id as usize]))
    }

    fn encode_plain(&self, text: &str, out: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        let mut escaped = escape_spaces(text);
        if self.space_before {
            escaped.insert_str(0, &escape_spaces(" "));
        }
        for part in self.merge(&escaped) {
            match self.ids.get(part) {
                Some(&id) => out.push(id),
                None => out.extend(
                    part.bytes().map(|byte| self.bytes[usize::from(byte)].unwrap_or(self.unknown)),
                ),
            }
        }
    }

    /// Splits `text` into pieces and characters that are no pieces.
    fn merge<'t>(&self, text: &'t str) -> impl Iterator<Item = &'t str> + use<'t> {
        let mut line = Line::new(text);
        let mut pairs = BinaryHeap::new();
        for left in 0..line.parts.len() {
            pairs.extend(self.pair(&line, left));
        }
        while let Some(pair) = pairs.pop() {
            if line.is_stale(&pair) {
                continue;
            }
            line.join(pair.left);
            pairs.extend(self.pair(&line, pair.left));
            if let Some(before) = line.parts[pair.left].before {
                pairs.extend(self.pair(&line, before));
            }
        }
        line.into_parts()
    }

    /// The pair of a part and its right neighbour, if together they are a piece.
    fn pair(&self, line: &Line<'_>, left: usize) -> Option<Pair> {
        let right = line.parts[left].after?;
        let joined = &line.text[line.parts[left].start..line.parts[right].end];
        let id = *self.ids.get(joined)?;
        Some(Pair { score: self.scores[id as usize], left, bytes: joined.len() })
    }
}

/// Text being merged: parts in a doubly linked list over one array.
struct Line<'t> {
    text: &'t str,
    parts: Vec<Part>,
}

#[derive(Clone, Copy)]
struct Part {
    start: usize,
    /// Equals `start` once the part was joined to the one before.
    end: usize,
    before: Option<usize>,
    after: Option<usize>,
}

impl<'t> Line<'t> {
    /// Starts with one part per character.
    fn new(text: &'t str) -> Self {
        let count = text.chars().count();
        let part = |(index, (start, character)): (usize, (usize, char))| Part {
            start,
            end: start + character.len_utf8(),
            before: index.checked_sub(1),
            after: Some(index + 1).filter(|&it| it < count),
        };
        Self { text, parts: text.char_indices().enumerate().map(part).collect() }
    }

    /// Whether one of the two parts changed since the pair was found.
    fn is_stale(&self, pair: &Pair) -> bool {
        let left = self.parts[pair.left];
        let end = left.after.map(|right| self.parts[right].end);
        left.start == left.end || end != Some(left.start + pair.bytes)
    }

    /// Joins a part with its right neighbour.
    fn join(&mut self, left: usize) {
        let right = self.parts[left].after.expect("only pairs are joined");
        let Part { end, after, start, .. } = self.parts[right];
        self.parts[left].end = end;
        self.parts[left].after = after;
        self.parts[right].end = start;
        self.parts[right].after = None;
        if let Some(after) = after {
            self.parts[after].before = Some(left);
        }
    }

    fn into_parts(self) -> impl Iterator<Item = &'t str> + use<'t> {
        let Self { text, parts } = self;
        parts.into_iter().filter(|it| it.start < it.end).map(|it| &text[it.start..it.end])
    }
}

/// Two neighbours that may be joined. The best is the greatest.
struct Pair {
    score: f32,
    left: usize,
    bytes: usize,
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(space_before: bool) -> Pieces {
        let text = |text, score| (text, score, Role::Text);
        let tokens = [
            ("<unk>", 0.0, Role::Unknown),
            ("<s>", 0.0, Role::Whole),
            ("\n\n", 0.0, Role::Whole),
            ("\n", 0.0, Role::Whole),
            ("<0xC3>", 0.0, Role::Byte),
            text("a", -9.0),
            text("b", -9.0),
            text("ab", -2.0),
            text("ba", -1.0),
            text("aba", -3.0),
            text("▁", -9.0),
            text("▁ab", -4.0),
        ];
        Pieces::new(tokens.into_iter(), 0, space_before)
    }

    #[track_caller]
    fn check(text: &str, expected: &[u32]) {
        let mut ids = Vec::new();
        vocabulary(false).encode(text, &mut ids);
        assert_eq!(ids, expected, "{text:?}");
    }

    #[test]
    fn the_best_score_is_merged_first() {
        check("ab", &[7]);
        // `ba` beats `ab`, and `a` then joins it.
        check("aba", &[9]);
        check("abab", &[9, 6]);
        check(" ab", &[11]);
        check("", &[]);
    }

    #[test]
    fn whole_tokens_are_found_first_and_the_longest_wins() {
        check("a\n\n\nb", &[5, 2, 3, 6]);
        check("<s>ab<s>", &[1, 7, 1]);
    }

    #[test]
    fn unknown_characters_become_bytes() {
        // é is C3 A9; only C3 has a token.
        check("é", &[4, 0]);
    }

    #[test]
    fn a_space_may_be_put_before_the_text() {
        let mut ids = Vec::new();
        vocabulary(true).encode("ab", &mut ids);
        assert_eq!(ids, [11]);
    }
}
