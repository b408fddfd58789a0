//! How the tokens of a vocabulary are written, and the bytes they mean.

use std::sync::LazyLock;

use tokenizers::DecoderWrapper;

/// Stands for a space in SentencePiece vocabularies.
const SPACE: char = '\u{2581}';
/// First character that stands for a byte which is no visible character of Latin-1.
const SHIFTED: u32 = 0x100;

/// The two ways to write bytes as text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Spelling {
    /// Every byte is one character (GPT-2).
    ByteLevel,
    /// Characters are themselves, U+2581 is a space, `<0x0A>` is one byte (SentencePiece).
    Pieces,
}

impl Spelling {
    /// The spelling that a `tokenizer.json` decodes with.
    pub(super) fn of_decoder(decoder: Option<&DecoderWrapper>) -> Self {
        match decoder {
            Some(DecoderWrapper::ByteLevel(_)) => Self::ByteLevel,
            Some(DecoderWrapper::Sequence(several)) => {
                let byte_level = |it: &DecoderWrapper| matches!(it, DecoderWrapper::ByteLevel(_));
                let any = several.get_decoders().iter().any(byte_level);
                if any { Self::ByteLevel } else { Self::Pieces }
            }
            _ => Self::Pieces,
        }
    }
}

/// Returns the bytes that the token written `text` means. `added` tokens are written as they are,
/// apart from spaces in pieces.
pub(super) fn bytes_of(text: &str, spelling: Spelling, added: bool) -> Vec<u8> {
    match spelling {
        Spelling::ByteLevel if added => text.as_bytes().to_vec(),
        Spelling::ByteLevel => byte_level(text),
        Spelling::Pieces => match single_byte(text) {
            Some(byte) => vec![byte],
            None => text.replace(SPACE, " ").into_bytes(),
        },
    }
}

/// The byte that `<0x0A>` means.
pub(super) fn single_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// Replaces spaces as SentencePiece does before it looks pieces up.
pub(super) fn escape_spaces(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + text.len() / 4);
    escaped.extend(text.chars().map(|it| if it == ' ' { SPACE } else { it }));
    escaped
}

fn byte_level(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match BYTES.iter().position(|&it| it == character) {
            Some(byte) => bytes.push(byte as u8),
            // No byte is written like this: the token was added as it is.
            None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// The character of every byte: itself if visible in Latin-1, else the next one from U+0100.
static BYTES: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut next = SHIFTED;
    std::array::from_fn(|byte| {
        let byte = byte as u32;
        let visible = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let code = if visible { byte } else { next };
        next += u32::from(!visible);
        char::from_u32(code).expect("far below the surrogates")
    })
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        assert_eq!((BYTES[0], BYTES[b' ' as usize], BYTES[0xff]), ('Ā', 'Ġ', 'ÿ'));
        let mut all = BYTES.to_vec();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 256);
        assert_eq!(bytes_of("Ġcaf", Spelling::ByteLevel, false), b" caf");
        assert_eq!(bytes_of("Ã©", Spelling::ByteLevel, false), "é".as_bytes());
        assert_eq!(bytes_of("Ġ", Spelling::ByteLevel, true), "Ġ".as_bytes());
    }

    #[test]
    fn pieces_spell_spaces_and_bytes() {
        assert_eq!(bytes_of("▁the", Spelling::Pieces, false), b" the");
        assert_eq!(bytes_of("<0x0A>", Spelling::Pieces, false), b"\n");
        assert_eq!(bytes_of("<0x0AB>", Spelling::Pieces, false), b"<0x0AB>");
        assert_eq!(escape_spaces("a  b"), "a▁▁b");
    }
}
