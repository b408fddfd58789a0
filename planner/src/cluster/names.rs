//! Looking up names, and the name that was probably meant.

use super::error::ClusterError;

/// The place of `name` among `known`.
pub(super) fn position(
    known: &[String],
    name: &str,
    kind: &'static str,
    key: impl FnOnce() -> String,
) -> Result<usize, ClusterError> {
    let found = known.iter().position(|it| it == name);
    found.ok_or_else(|| unknown(known.iter().map(String::as_str), name, kind, key()))
}

/// The refusal of a `name` that is not `known`.
pub(super) fn unknown<'a>(
    known: impl Iterator<Item = &'a str>,
    name: &str,
    kind: &'static str,
    key: String,
) -> ClusterError {
    ClusterError::Unknown { key, kind, name: name.to_owned(), nearest: nearest(known, name) }
}

/// Names longer than this are not compared; nobody mistypes one.
const COMPARED_BYTES_MAX: usize = 64;

/// The known name with the fewest letters changed, if fewer than half of them are.
fn nearest<'a>(known: impl Iterator<Item = &'a str>, name: &str) -> Option<String> {
    let near = |it: &&str| it.len().max(name.len()) <= COMPARED_BYTES_MAX;
    known
        .filter(near)
        .map(|it| (edits(&it.to_lowercase(), &name.to_lowercase()), it))
        .min()
        .filter(|&(edits, _)| 2 * edits <= name.len())
        .map(|(_, it)| it.to_owned())
}

/// Letters to insert, remove or replace to turn one into the other (Levenshtein).
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (done, letter) in from.chars().enumerate() {
        let mut corner = row[0];
        row[0] = done + 1;
        for (at, other) in to.chars().enumerate() {
            let replaced = corner + usize::from(letter != other);
            corner = row[at + 1];
            row[at + 1] = replaced.min(row[at] + 1).min(corner + 1);
        }
    }
    row[to.chars().count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_name_is_suggested_and_no_unlikely_one() {
        let known = ["A100", "L4", "L4x2", "llama-2-70b"];
        let meant = |name| nearest(known.into_iter(), name);
        assert_eq!(meant("a100").as_deref(), Some("A100"));
        assert_eq!(meant("L4x3").as_deref(), Some("L4x2"));
        assert_eq!(meant("llama-70b").as_deref(), Some("llama-2-70b"));
        assert_eq!(meant("H200x8"), None);
        assert_eq!(meant(""), None);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
