//! Errors as an operator meets them.

use std::error::Error;
use std::fmt;
use std::io;

/// An error as the operator meets it: what failed, why, and what to try.
#[derive(Debug)]
pub struct Advice {
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    hints: Vec<String>,
}

impl Advice {
    /// Says what failed, and why.
    pub fn new(
        message: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { source: Some(source.into()), ..Self::plain(message) }
    }

    /// Says what failed, where there is nothing below it.
    pub fn plain(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None, hints: Vec::new() }
    }

    /// Adds something to try.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    fn causes<'a>(&'a self) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
        let first: Option<&'a (dyn Error + 'static)> = match &self.source {
            Some(source) => Some(source.as_ref()),
            None => None,
        };
        std::iter::successors(first, |&error| error.source())
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error: {}", self.message)?;
        self.causes().try_for_each(|cause| write!(f, "\nCaused by: {cause}"))?;
        self.hints.iter().try_for_each(|hint| write!(f, "\nHint: {hint}"))
    }
}

/// Picks the exit code. A reader that went away is not a failure of ours.
pub fn exit_code(result: &Result<(), Advice>) -> u8 {
    match result {
        Ok(()) => 0,
        Err(advice) if is_broken_pipe(advice) => 0,
        Err(_) => 1,
    }
}

fn is_broken_pipe(advice: &Advice) -> bool {
    advice.causes().any(|cause| {
        let io_error = cause.downcast_ref::<io::Error>();
        io_error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn screen_shows_what_why_and_what_to_try() {
        let source = io::Error::other("disk on fire");
        let advice = Advice::new("cannot read `a`", source).hint("Use water.").hint("Run.");
        assert_eq!(
            advice.to_string(),
            "Error: cannot read `a`\nCaused by: disk on fire\nHint: Use water.\nHint: Run.",
        );
        assert_eq!(exit_code(&Err(advice)), 1);
        assert_eq!(Advice::plain("no").to_string(), "Error: no");
    }

    #[test]
    fn broken_pipe_is_no_failure() {
        let gone = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(exit_code(&Err(Advice::new("cannot write", gone))), 0);
        assert_eq!(exit_code(&Ok(())), 0);
    }
}
