use thalweg_core::policy::Pack;
use thalweg_core::{gateway::Gateway, liveness::Liveness, stage::Stage};
use thalweg_wire::{Candidate, DType, HostId, ModelId, ModelShape, Sampling};

use super::*;

const ME: HostId = HostId(7);

fn setup(tokens_kept: bool) -> Setup {
    let seconds = Duration::from_secs;
    let context_tokens = 256;
    Setup {
        version: "0.0.0".into(),
        started_us: 1,
        tokens_kept,
        stage: stage::Config {
            me: ME,
            context_tokens,
            hidden: 8,
            dtype: DType::F32,
            idle_after: seconds(180),
            policy: Pack::THALWEG.stage,
        },
        gateway: gateway::Config {
            me: ME,
            incarnation: 5,
            context_tokens,
            stall_after: seconds(60),
            policy: Pack::THALWEG.gateway,
        },
        liveness: liveness::Config { suspect_after: seconds(1), dead_after: seconds(3) },
        conductor: conductor::Config {
            me: ME,
            incarnation: 5,
            shape: ModelShape {
                model: ModelId([7; 32]),
                name: "small".into(),
                layers: 4,
                hidden: 8,
                layer_bytes: Vec::new(),
                embedding_bytes: thalweg_wire::Bytes(1),
                head_bytes: thalweg_wire::Bytes(1),
                kv_bytes_per_token_layer: thalweg_wire::Bytes(1),
                context_tokens,
            },
            hosts_expected: 1,
            settle: seconds(1),
            grace: seconds(30),
            retry: seconds(2),
        },
    }
}

fn submit(prompt: Vec<u32>) -> gateway::Event {
    let sampling = Sampling::default();
    gateway::Event::Submit { ticket: 1, prompt, sampling, priority: 100, tenant: 0 }
}

/// Writes a journal by `note`, and returns its bytes.
fn written(tokens_kept: bool, note: impl FnOnce(&Journal)) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("journal");
    let journal = Journal::create(&path, &setup(tokens_kept)).expect("the folder is writable");
    note(&journal);
    journal.close();
    fs::read(&path).expect("it was written")
}

fn read(bytes: &[u8]) -> Result<Vec<Record>, ReadError> {
    let (_, mut reader) = Reader::open(bytes)?;
    std::iter::from_fn(|| reader.record().transpose()).collect()
}

/// A heartbeat and a deadline.
fn two(journal: &Journal) {
    let at = Duration::from_millis(3);
    journal.seen::<Liveness>(at, Some(&liveness::Event::Heartbeat(ME)));
    let mut did = journal.effects(Part::Liveness);
    did.as_mut().expect("it sees no tokens").push(&liveness::Effect::Trust(ME));
    journal.did(Part::Liveness, did);
    journal.seen::<Liveness>(at, None);
    journal.did(Part::Liveness, journal.effects(Part::Liveness));
}

#[test]
fn what_is_noted_is_read() {
    let bytes = written(false, two);
    let at = Duration::from_millis(3);
    let mut did = Did::NOTHING;
    did.push(&liveness::Effect::Trust(ME));
    let expected = [
        Record::Liveness(Seen { at, what: What::Event(liveness::Event::Heartbeat(ME)) }),
        Record::Did(Part::Liveness, did),
        Record::Liveness(Seen { at, what: What::Timeout }),
        Record::Did(Part::Liveness, Did::NOTHING),
        Record::Closed,
    ];
    assert_eq!(read(&bytes).expect("whole"), expected);
    let (setup, _) = Reader::open(bytes.as_slice()).expect("whole");
    assert_eq!((setup.version.as_str(), setup.liveness.dead_after.as_secs()), ("0.0.0", 3));
}

#[test]
fn without_being_asked_for_token_ids_are_not_kept() {
    let note = |journal: &Journal| {
        journal.seen::<Gateway>(Time::ZERO, Some(&submit(vec![11, 12])));
        journal.did(Part::Gateway, journal.effects(Part::Gateway));
        let sampled = Candidate { token: 13, logprob: 0.0 };
        let outputs = vec![stage::StepOutput::Sampled { sampled, top: vec![sampled] }];
        journal.seen::<Stage>(Time::ZERO, Some(&stage::Event::StepDone { outputs }));
        journal.did(Part::Stage, journal.effects(Part::Stage));
    };
    let records = read(&written(false, note)).expect("whole");
    let [Record::Gateway(asked), Record::Stage(stepped), Record::Closed] = &records[..] else {
        panic!("no effects of machines that see tokens: {records:?}");
    };
    assert_eq!(asked.what, What::Event(submit(vec![0, 0])));
    let sampled = Candidate { token: 0, logprob: 0.0 };
    let outputs = vec![stage::StepOutput::Sampled { sampled, top: Vec::new() }];
    assert_eq!(stepped.what, What::Event(stage::Event::StepDone { outputs }));

    let records = read(&written(true, note)).expect("whole");
    assert_eq!(records.len(), 5);
    let Record::Gateway(asked) = &records[0] else { panic!("{records:?}") };
    assert_eq!(asked.what, What::Event(submit(vec![11, 12])));
}

#[test]
fn a_file_that_breaks_off_is_told_where() {
    let bytes = written(false, two);
    let whole = read(&bytes).expect("whole").len();
    let mut ends = 0;
    for length in 0..bytes.len() {
        match read(&bytes[..length]) {
            Ok(records) => {
                assert!(records.len() < whole);
                ends += 1;
            }
            Err(ReadError::NotAJournal) => assert!(length < PREFACE.len()),
            Err(ReadError::Truncated { offset, wanted, found }) => {
                assert!(found < wanted && offset + u64::from(found) == length as u64, "{length}");
            }
            Err(other) => panic!("{length}: {other}"),
        }
    }
    assert_eq!(ends, whole, "whole records are read, however many");
}

#[test]
fn lies_are_refused() {
    let bytes = written(false, two);
    let mut long = bytes.clone();
    long[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    let refused = read(&long).expect_err("four gigabytes");
    assert!(matches!(refused, ReadError::TooLong { offset: 12, bytes: u32::MAX }), "{refused}");

    let mut later = bytes.clone();
    later[8] = 2;
    let refused = read(&later).expect_err("another format");
    assert!(matches!(refused, ReadError::Format { found: 2, known: 1 }), "{refused}");

    let mut other = bytes.clone();
    other[0] = b'X';
    assert!(matches!(read(&other), Err(ReadError::NotAJournal)));

    // The last record is `Closed`: its length, then its number among the kinds.
    let mut strange = bytes;
    *strange.last_mut().expect("not empty") = 99;
    let refused = read(&strange).expect_err("no kind of record");
    let end = strange.len() as u64 - 1;
    assert!(
        matches!(refused, ReadError::Malformed { offset, bytes: 1, .. } if offset == end),
        "{refused}"
    );
}

#[test]
fn an_event_too_large_for_a_record_leaves_a_gap() {
    let fits = vec![1; 1 << 17];
    let note = |journal: &Journal| {
        // The first cannot be encoded, the second could not be decoded.
        for prompt in [vec![70_000; 1 << 18], vec![1; 1 << 19], fits.clone()] {
            journal.seen::<Gateway>(Time::ZERO, Some(&submit(prompt)));
        }
    };
    let records = read(&written(true, note)).expect("whole");
    let seen = |what| Record::Gateway(Seen { at: Time::ZERO, what });
    let whole = seen(What::Event(submit(fits.clone())));
    assert!(records == [seen(What::TooLarge), seen(What::TooLarge), whole, Record::Closed]);
}

#[test]
fn a_full_disk_ends_the_journal_and_nothing_else() {
    let journal = Journal::create(Path::new("/dev/full"), &setup(false)).expect("it can be opened");
    two(&journal);
    let sink = journal.0.as_ref().expect("it is on");
    sink.write();
    assert!(sink.pending().ended);
    two(&journal);
    assert!(sink.pending().bytes.is_empty(), "nothing piles up");
    journal.close();
}

#[test]
fn a_disk_that_never_takes_anything_costs_bounded_memory() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("journal");
    let journal = Journal::create(&path, &setup(true)).expect("the folder is writable");
    let sink = journal.0.as_ref().expect("it is on");
    let slow = sink.file.lock().expect("nobody panicked");
    let prompt = submit(vec![1; 1 << 17]);
    for _ in 0..=PENDING_BYTES_MAX >> 17 {
        journal.seen::<Gateway>(Time::ZERO, Some(&prompt));
    }
    assert!(sink.pending().ended && sink.pending().bytes.len() <= PENDING_BYTES_MAX);
    drop(slow);
    journal.close();
    let records = read(&fs::read(&path).expect("it was written")).expect("whole");
    assert!(records.len() > 100 && records.last() != Some(&Record::Closed));
}

#[test]
fn an_older_journal_stays() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("journal");
    fs::write(&path, "how it ended").expect("the folder is writable");
    Journal::create(&path, &setup(false)).expect("the folder is writable").close();
    let old = fs::read_to_string(folder.path().join("journal.old")).expect("it is kept");
    assert_eq!(old, "how it ended");
}

#[test]
fn a_folder_that_does_not_exist_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let refused = Journal::create(&folder.path().join("no/journal"), &setup(false));
    assert_eq!(refused.expect_err("no folder").kind(), io::ErrorKind::NotFound);
}
