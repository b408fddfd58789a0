//! `thalweg pull` and `thalweg list`: models on this machine.

use std::io::Write;

use indicatif::{ProgressBar, ProgressStyle};
use thalweg_engine::pull;
use thalweg_wire::Bytes;

use super::advice::Advice;

/// Fetch a model, so that hosts can serve it without waiting
///
/// Takes a path, a Hugging Face id (`owner/name`, or `owner/name/file.gguf`) or a built-in name.
#[derive(Clone, Debug, clap::Args)]
pub struct PullArgs {
    /// Path, Hugging Face id or built-in name
    #[arg(value_name = "MODEL", default_value = pull::DEFAULT_MODEL)]
    model: String,
}

/// List the models on this machine
#[derive(Clone, Debug, clap::Args)]
pub struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `thalweg pull`. Prints the path.
///
/// # Errors
///
/// If the model cannot be obtained.
pub fn run_pull(args: &PullArgs, stdout: &mut impl Write) -> Result<(), Advice> {
    let path = pull_with_bar(&args.model)?;
    writeln!(stdout, "{}", path.display()).map_err(|e| Advice::new("cannot write the path", e))
}

/// Fetches a model with a progress bar on stderr.
///
/// # Errors
///
/// If the model cannot be obtained.
pub fn pull_with_bar(model: &str) -> Result<std::path::PathBuf, Advice> {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{msg} {bar:40} {bytes}/{total_bytes} {eta}");
    bar.set_style(style.expect("the template is valid"));
    bar.set_message(format!("pull {model}"));
    let path = pull::pull(model, &|done: u64, total: u64| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    path.map_err(|source| {
        Advice::new(format!("cannot obtain model `{model}`"), source)
            .hint("Built-in names: smollm2-135m, gemma3-270m. A local GGUF file works too.")
    })
}

/// Runs `thalweg list`.
///
/// # Errors
///
/// If the list cannot be written.
pub fn run_list(args: &ListArgs, stdout: &mut impl Write) -> Result<(), Advice> {
    let failed = |source| Advice::new("cannot write the list", source);
    let models = pull::list();
    if args.json {
        let rows: Vec<_> = models
            .iter()
            .map(|it| serde_json::json!({"name": it.name, "path": it.path, "bytes": it.bytes}))
            .collect();
        return writeln!(stdout, "{}", serde_json::json!(rows)).map_err(failed);
    }
    for it in models {
        let size = Bytes(it.bytes).to_string();
        writeln!(stdout, "{:<24} {size:>10}  {}", it.name, it.path.display()).map_err(failed)?;
    }
    Ok(())
}
