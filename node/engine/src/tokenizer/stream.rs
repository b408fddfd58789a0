//! Decoding tokens as they come.

use std::sync::Arc;

use super::Tokenizer;

/// Decodes one sequence of tokens; text comes out as soon as its characters are complete.
#[derive(Debug)]
pub struct TokenStreamDecoder {
    tokenizer: Arc<Tokenizer>,
    /// The start of a character whose other bytes are in tokens to come; at most three bytes.
    pending: Vec<u8>,
}

impl TokenStreamDecoder {
    /// Starts a sequence, which continues a prompt: a leading space is part of it.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self { tokenizer, pending: Vec::new() }
    }

    /// Takes the next token. Returns the text that is now certain, if any.
    pub fn push(&mut self, token: u32) -> Option<String> {
        if self.tokenizer.is_control(token) {
            return None;
        }
        self.pending.extend(self.tokenizer.token_bytes(token));
        let text = take_complete(&mut self.pending);
        (!text.is_empty()).then_some(text)
    }

    /// Ends the sequence. Returns a replacement character if a character stayed incomplete.
    pub fn finish(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.pending);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }
}

/// Takes whole characters from the front, and replacement characters for what can never be one.
fn take_complete(pending: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut used = 0;
    for chunk in pending.utf8_chunks() {
        text.push_str(chunk.valid());
        used += chunk.valid().len();
        let invalid = chunk.invalid();
        let at_end = used + invalid.len() == pending.len();
        if invalid.is_empty() || (at_end && may_continue(invalid)) {
            break;
        }
        text.push(char::REPLACEMENT_CHARACTER);
        used += invalid.len();
    }
    pending.drain(..used);
    text
}

/// Whether more bytes could make `bytes` a character.
fn may_continue(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `parts` one by one and returns what comes out, then what stays.
    fn check(parts: &[&[u8]], expected: &[&str], rest: &[u8]) {
        let mut pending = Vec::new();
        let texts: Vec<String> = parts
            .iter()
            .map(|part| {
                pending.extend_from_slice(part);
                take_complete(&mut pending)
            })
            .collect();
        assert_eq!(texts, expected);
        assert_eq!(pending, rest);
    }

    #[test]
    fn characters_wait_for_their_last_byte() {
        let crab = "🦀".as_bytes();
        check(&[&crab[..1], &crab[1..3], &crab[3..]], &["", "", "🦀"], b"");
        check(&[&[b'a', crab[0]], &crab[1..]], &["a", "🦀"], b"");
        check(&[&crab[..2]], &[""], &crab[..2]);
    }

    #[test]
    fn bytes_that_are_no_text_do_not_hold_up_the_rest() {
        check(&[&[0xff], b"a"], &["\u{fffd}", "a"], b"");
        check(&[&[0xe2, 0x82], b"b"], &["", "\u{fffd}b"], b"");
        check(&[&[0xf0, 0x9f, 0xff, b'c']], &["\u{fffd}\u{fffd}c"], b"");
    }
}
