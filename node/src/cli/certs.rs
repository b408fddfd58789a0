//! `thalweg certs`: who belongs to a cluster.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use serde_json::json;
use thalweg_certs::{
    Authority, AuthorityError, HostState, IdentityError, Inventory, Invitation, Layout,
    Outstanding, Revocation, UnixSeconds,
};

use super::advice::Advice;

/// Longest life of a join token. Whoever finds one in a shell history should find it stale.
const TOKEN_LIFE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Digits of a token's hash that are shown: enough to tell a handful of tokens apart.
const HASH_BYTES_SHOWN: usize = 4;

/// Create the cluster's authority, issue and revoke host certificates
#[derive(Clone, Debug, Args)]
pub struct CertsArgs {
    #[command(subcommand)]
    verb: Verb,

    /// Directory of certificates and keys
    #[arg(long, value_name = "DIR", default_value = "certs", global = true)]
    dir: PathBuf,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Create the authority of a new cluster
    Init {
        /// Name of the cluster: lower-case letters, digits and hyphens
        #[arg(long, value_name = "NAME")]
        cluster: String,
    },
    /// Issue a certificate and key to a host
    Issue {
        /// Name of the host: lower-case letters, digits and hyphens
        name: String,
        /// Region it stands in
        #[arg(long, value_name = "REGION")]
        region: String,
    },
    /// Take every certificate of a host back
    Revoke {
        /// Name of the host
        name: String,
    },
    /// Print a token with which one host may join
    ///
    /// The token is a secret and admits once. It is all that goes to standard output.
    JoinToken {
        /// Where a running host that holds ca.key answers, as the new host reaches it
        #[arg(long, value_name = "HOST:PORT")]
        address: String,
        /// Region the new host must stand in, if not its own choice
        #[arg(long, value_name = "REGION")]
        region: Option<String>,
        /// Name the new host must take, if not its own choice
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// How long the token admits: 90s, 15m, 1h, 2d; at most 7d
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_life)]
        expires: Duration,
    },
    /// Show the authority, its hosts and outstanding tokens
    Show {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs `thalweg certs`. What was made goes to `stdout`, what to do next to standard error.
///
/// # Errors
///
/// An [`Advice`] when files cannot be used or the authority refuses.
pub fn run(args: &CertsArgs, stdout: &mut impl Write) -> Result<(), Advice> {
    run_at(args, UnixSeconds::from(SystemTime::now()), stdout, &mut io::stderr())
}

fn run_at(
    args: &CertsArgs,
    now: UnixSeconds,
    stdout: &mut impl Write,
    stderr: &mut impl Write,
) -> Result<(), Advice> {
    let dir = &args.dir;
    let (result, note) = match &args.verb {
        Verb::Init { cluster } => init(dir, cluster, now)?,
        Verb::Issue { name, region } => issue(dir, name, region, now)?,
        Verb::Revoke { name } => revoke(dir, name, now)?,
        Verb::JoinToken { address, region, name, expires } => {
            let (address, region, name) = (address.clone(), region.clone(), name.clone());
            join_token(dir, Invitation { address, region, name, expiry: now.after(*expires) }, now)?
        }
        Verb::Show { json } => (show(dir, *json, now)?, String::new()),
    };
    stdout.write_all(result.as_bytes()).map_err(|e| Advice::new("cannot write the result", e))?;
    stderr.write_all(note.as_bytes()).map_err(|e| Advice::new("cannot write to the terminal", e))
}

fn init(dir: &Path, cluster: &str, now: UnixSeconds) -> Result<(String, String), Advice> {
    let authority = Authority::create(dir, cluster, now).map_err(|error| {
        advise(format!("cannot create the authority of cluster `{cluster}`"), dir, error)
    })?;
    let result = format!("{cluster} {}\n", authority.fingerprint());
    let key = authority.layout().ca_key();
    let note = format!(
        "`{}` can add hosts to the cluster: keep it, and never commit it.\n\
         Next: thalweg certs issue NAME --region REGION --dir {}\n",
        key.display(),
        dir.display(),
    );
    Ok((result, note))
}

fn issue(
    dir: &Path,
    name: &str,
    region: &str,
    now: UnixSeconds,
) -> Result<(String, String), Advice> {
    let issued = Authority::open(dir)
        .and_then(|authority| authority.issue(name, region, now))
        .map_err(|error| advise(format!("cannot issue a certificate to `{name}`"), dir, error))?;
    let result = format!("{}\n{}\n", issued.certificate.display(), issued.key.display());
    let layout = Layout::new(dir);
    let note = format!(
        "{} until {}. The host needs both files, `{}` and `{}`.\n",
        issued.identity,
        issued.not_after,
        layout.ca_certificate().display(),
        layout.ca_crl().display(),
    );
    Ok((result, note))
}

fn revoke(dir: &Path, name: &str, now: UnixSeconds) -> Result<(String, String), Advice> {
    let revocation = Authority::open(dir)
        .and_then(|authority| authority.revoke(name, now))
        .map_err(|error| advise(format!("cannot revoke `{name}`"), dir, error))?;
    let result = match revocation {
        Revocation::Revoked { certificates } => format!("{name} revoked {certificates}\n"),
        Revocation::AlreadyRevoked => format!("{name} revoked already\n"),
    };
    let list = Layout::new(dir).ca_crl();
    let note = format!("Hosts refuse it once they have the new `{}`.\n", list.display());
    Ok((result, note))
}

fn join_token(
    dir: &Path,
    invitation: Invitation,
    now: UnixSeconds,
) -> Result<(String, String), Advice> {
    let token = Authority::open(dir)
        .and_then(|authority| authority.invite(invitation, now))
        .map_err(|error| advise("cannot make a join token".to_owned(), dir, error))?;
    let note = format!(
        "Admits one host until {}. The host at {} must be running with `{}`.\n",
        token.expiry,
        token.address,
        Layout::new(dir).ca_key().display(),
    );
    Ok((format!("{token}\n"), note))
}

fn show(dir: &Path, json: bool, now: UnixSeconds) -> Result<String, Advice> {
    let inventory = Inventory::read(dir, now).map_err(|error| {
        advise_file(Advice::new(format!("cannot read `{}`", dir.display()), error), dir)
    })?;
    if json {
        return Ok(format!("{}\n", as_json(&inventory)));
    }
    let Inventory { cluster, fingerprint, not_after, hosts, tokens } = inventory;
    let mut text = format!("cluster {cluster}  until {not_after}\nauthority {fingerprint}\n");
    for host in &hosts {
        let state = state_word(host.state);
        let (name, region, not_after) = (&host.name, &host.region, host.not_after);
        text += &format!("host {name:<16} {region:<12} {state:<8} until {not_after}\n");
    }
    for token in &tokens {
        let any = |word: &Option<String>| word.clone().unwrap_or_else(|| "any".to_owned());
        let (hash, name, region) = (short_hash(token), any(&token.name), any(&token.region));
        text += &format!("token {hash} {name:<16} {region:<12} until {}\n", token.expiry);
    }
    Ok(text)
}

fn as_json(inventory: &Inventory) -> serde_json::Value {
    let hosts: Vec<_> = inventory
        .hosts
        .iter()
        .map(|host| {
            json!({
                "name": host.name,
                "region": host.region,
                "serial": host.serial,
                "state": state_word(host.state),
                "not_after": host.not_after.to_string(),
            })
        })
        .collect();
    let tokens: Vec<_> = inventory
        .tokens
        .iter()
        .map(|token| {
            json!({
                "hash": short_hash(token),
                "name": token.name,
                "region": token.region,
                "expiry": token.expiry.to_string(),
            })
        })
        .collect();
    json!({
        "cluster": inventory.cluster,
        "fingerprint": inventory.fingerprint.to_string(),
        "not_after": inventory.not_after.to_string(),
        "hosts": hosts,
        "tokens": tokens,
    })
}

fn state_word(state: HostState) -> &'static str {
    match state {
        HostState::Good => "good",
        HostState::Expired => "expired",
        HostState::Revoked => "revoked",
    }
}

fn short_hash(token: &Outstanding) -> String {
    token.hash.iter().take(HASH_BYTES_SHOWN).map(|byte| format!("{byte:02x}")).collect()
}

/// Turns a refusal of the authority into advice.
fn advise(message: String, dir: &Path, error: AuthorityError) -> Advice {
    let shown = dir.display();
    let hint = match &error {
        AuthorityError::File(_) => return advise_file(Advice::new(message, error), dir),
        AuthorityError::Exists { .. } => {
            format!(
                "See what is there with `thalweg certs show --dir {shown}`, or name another --dir."
            )
        }
        AuthorityError::Identity(IdentityError::Label { .. }) => {
            "Names end up in host names and files: try `gpu-1`, `eu-west`.".to_owned()
        }
        AuthorityError::NameTaken { name, .. } => {
            format!("Take it back with `thalweg certs revoke {name} --dir {shown}` first.")
        }
        AuthorityError::UnknownHost { .. } => {
            format!("`thalweg certs show --dir {shown}` lists the hosts.")
        }
        AuthorityError::Address { .. } => "Try `--address 192.0.2.7:7100`.".to_owned(),
        AuthorityError::WrongKey { .. } | AuthorityError::NotAnAuthority { .. } => {
            format!("Restore ca.crt and ca.key in `{shown}` from one backup.")
        }
        _ => return Advice::new(message, error),
    };
    Advice::new(message, error).hint(hint)
}

/// Adds what helps when files of `dir` are missing or closed.
fn advise_file(advice: Advice, dir: &Path) -> Advice {
    let layout = Layout::new(dir);
    let shown = dir.display();
    if !layout.ca_certificate().exists() {
        return advice
            .hint(format!("`thalweg certs init --cluster NAME --dir {shown}` makes one."));
    }
    if !layout.ca_key().exists() {
        return advice.hint(format!(
            "`{shown}` has no ca.key: run this where the cluster was created, or name its --dir.",
        ));
    }
    advice
}

/// Reads `90s`, `15m`, `1h` or `2d`.
fn parse_life(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).unwrap_or_default();
    let unit_seconds = match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(24 * 3600),
        _ => None,
    };
    let seconds = number.parse::<u64>().ok().zip(unit_seconds);
    let life = seconds.and_then(|(number, unit)| number.checked_mul(unit)).map(Duration::from_secs);
    match life {
        Some(life) if life.is_zero() => Err("a token must live for a moment".to_owned()),
        Some(life) if life > TOKEN_LIFE_MAX => Err("a token lives for at most 7d".to_owned()),
        Some(life) => Ok(life),
        None => Err("write a number and s, m, h or d, such as 15m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use thalweg_certs::JoinToken;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_795_420_805);

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: CertsArgs,
    }

    /// Runs a command line in `dir` and returns what each stream shows, without the directory.
    fn run_line(dir: &Path, line: &str) -> Result<(String, String), String> {
        let root = dir.display().to_string();
        let words = ["certs", "--dir", &root].into_iter().chain(line.split(' '));
        let args = Line::try_parse_from(words).map_err(|error| error.to_string())?.args;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let clean = |text: &str| text.replace(&root, "DIR");
        run_at(&args, NOW, &mut stdout, &mut stderr)
            .map_err(|advice| clean(&advice.to_string()))?;
        let [stdout, stderr] =
            [stdout, stderr].map(|text| clean(&String::from_utf8(text).expect("text")));
        Ok((stdout, stderr))
    }

    #[test]
    fn life_of_a_cluster_on_the_command_line() {
        let root = tempfile::tempdir().expect("the system has a temporary directory");
        let dir = root.path().join("certs");
        let run = |line| run_line(&dir, line).expect(line);
        let (made, note) = run("init --cluster river");
        assert!(made.starts_with("river ") && made.len() == "river \n".len() + 64, "{made}");
        assert!(note.starts_with("`DIR/ca.key` can add hosts to the cluster"), "{note}");
        let (made, note) = run("issue h1 --region eu");
        assert_eq!(made, "DIR/node-h1.crt\nDIR/node-h1.key\n");
        assert_eq!(
            note,
            "spiffe://river/region/eu/node/h1 until 2027-11-23T08:00:05Z. \
             The host needs both files, `DIR/ca.crt` and `DIR/ca.crl`.\n",
        );
        assert_eq!(run("revoke h1").0, "h1 revoked 1\n");
        assert_eq!(run("revoke h1").0, "h1 revoked already\n");
        run("issue h1 --region us");
        let (shown, _) = run("show");
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "cluster river  until 2036-11-20T08:00:05Z");
        assert_eq!(lines.len(), 4);
        assert!(lines[2..].iter().any(|line| line.contains("eu") && line.contains("revoked")));
        assert!(lines[2..].iter().any(|line| line.contains("us") && line.contains("good")));
    }

    #[test]
    fn token_alone_goes_to_standard_output() {
        let root = tempfile::tempdir().expect("the system has a temporary directory");
        let run = |line| run_line(root.path(), line).expect(line);
        run("init --cluster river");
        let (word, note) = run("join-token --address h1.example:7100 --region us --expires 15m");
        let token: JoinToken = word.trim_end_matches('\n').parse().expect("nothing but the token");
        assert_eq!((token.region.as_deref(), token.name.as_deref()), (Some("us"), None));
        assert_eq!(token.expiry, NOW.after(Duration::from_secs(900)));
        assert!(!note.contains(word.trim()), "{note}");
        let shown: serde_json::Value =
            serde_json::from_str(&run("show --json").0).expect("JSON, and only JSON");
        assert_eq!(shown["tokens"][0]["region"], "us");
        assert!(!shown.to_string().contains(word.trim()), "{shown}");
    }

    #[test]
    fn refusals_say_what_to_do_next() {
        let root = tempfile::tempdir().expect("the system has a temporary directory");
        let dir = root.path().join("certs");
        let refused = |line| run_line(&dir, line).expect_err(line);
        assert_eq!(
            refused("issue h1 --region eu"),
            "Error: cannot issue a certificate to `h1`\n\
             Caused by: cannot read `DIR/ca.crt`\n\
             Caused by: No such file or directory (os error 2)\n\
             Hint: `thalweg certs init --cluster NAME --dir DIR` makes one.",
        );
        run_line(&dir, "init --cluster river").expect("a new directory");
        run_line(&dir, "issue h1 --region eu").expect("a free name");
        for (line, hint) in [
            ("init --cluster river", "Hint: See what is there with `thalweg certs show --dir DIR`"),
            ("issue h1 --region eu", "Hint: Take it back with `thalweg certs revoke h1 --dir DIR`"),
            ("issue H1 --region eu", "Hint: Names end up in host names and files"),
            ("revoke h2", "Hint: `thalweg certs show --dir DIR` lists the hosts."),
            ("join-token --address h1", "Hint: Try `--address 192.0.2.7:7100`."),
        ] {
            assert!(refused(line).contains(hint), "{line}: {}", refused(line));
        }
        std::fs::remove_file(dir.join("ca.key")).expect("it was made");
        assert!(refused("issue h2 --region eu").contains("has no ca.key"));
    }

    #[test]
    fn lives_of_tokens_have_units_and_a_limit() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("1h", 3600), ("7d", 604_800)] {
            assert_eq!(parse_life(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "h", "1", "-1h", "1w", "0s", "8d", "1.5h", "99999999999999999999d", "1ü"] {
            assert!(parse_life(bad).is_err(), "{bad} passed");
        }
    }
}
