//! `thalweg simulate replay`: what a real host did, done again by the same machines.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufReader, Write};
use std::panic;
use std::path::{Path, PathBuf};

use clap::Args;
use thalweg_sim::replay::{Outcome, Replay};

use super::unwritten;
use crate::cli::advice::Advice;
use crate::journal::Reader;

/// Replay the journal of a real host
///
/// The machines of the host are created again and fed what they heard of, at the times they heard
/// of it. They must do the same, and keep their invariants after every event. `thalweg serve
/// --journal FILE` writes a journal; with `--journal-tokens` stage and gateway can be replayed too.
#[derive(Clone, Debug, Args)]
pub(super) struct ReplayArgs {
    /// Journal of a host
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Print the outcome as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
///
/// If the file is not a whole journal, or a machine did something else than on the host.
pub(super) fn run(args: &ReplayArgs, stdout: &mut impl Write) -> Result<(), Advice> {
    // A machine that panics is an answer here, and must not end the process as elsewhere.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let replayed = replay(&args.file);
    panic::set_hook(hook);
    let outcome = replayed?;
    let text = match args.json {
        true => serde_json::to_string(&outcome)
            .map_err(|error| Advice::new("cannot write the outcome as JSON", error))?,
        false => table(&outcome),
    };
    writeln!(stdout, "{}", text.trim_end()).map_err(unwritten)?;
    let Some(trouble) = outcome.trouble else { return Ok(()) };
    let advice = Advice::plain(format!("`{}`: {trouble}", args.file.display()));
    let version = env!("CARGO_PKG_VERSION");
    Err(match outcome.version == version {
        true => advice,
        false => advice.hint(format!(
            "Version {} wrote the journal and this is {version}: replay it with that one.",
            outcome.version
        )),
    })
}

fn replay(path: &Path) -> Result<Outcome, Advice> {
    let name = path.display();
    let file = File::open(path)
        .map_err(|error| Advice::new(format!("cannot open journal `{name}`"), error))?;
    let unreadable = |error| {
        Advice::new(format!("`{name}` is not a whole journal"), error)
            .hint("`thalweg serve --journal FILE` writes one.")
    };
    let strange = |error| Advice::new(format!("no host wrote the journal `{name}`"), error);
    let (setup, mut reader) = Reader::open(BufReader::new(file)).map_err(unreadable)?;
    let mut replay = Replay::new(setup).map_err(strange)?;
    loop {
        match reader.record() {
            Ok(Some(record)) => {
                if replay.feed(record).map_err(strange)?.is_break() {
                    break;
                }
            }
            Ok(None) => break,
            Err(error) => {
                let events = replay.outcome().events;
                let before =
                    format!("The {events} events before were replayed without a difference.");
                return Err(unreadable(error).hint(before));
            }
        }
    }
    Ok(replay.outcome())
}

fn table(outcome: &Outcome) -> String {
    let mut text =
        format!("{:<12}{:>10}{:>10}{:>10}\n", "machine", "events", "compared", "skipped");
    for it in &outcome.machines {
        let why = it.skip.map_or(String::new(), |skip| format!("  {skip}"));
        let name = it.machine.to_string();
        let counts = format!("{:>10}{:>10}{:>10}", it.replayed, it.compared, it.skipped);
        // Writing into a string cannot fail.
        let _written = writeln!(text, "{name:<12}{counts}{why}");
    }
    let end = if outcome.closed { "" } else { "; the host did not close its journal" };
    let equal = match outcome.trouble {
        None => "all that was compared is equal",
        Some(_) => "the replay ended early",
    };
    let (events, seconds) = (outcome.events, outcome.seconds);
    let _written = writeln!(text, "{events} events in {seconds:.1} s: {equal}{end}");
    text
}
