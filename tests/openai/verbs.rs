//! The verbs of the command line that talk to a server.

use std::time::Instant;

use serde_json::json;
use thalweg::cli::{chat, client, status};
use thalweg::generate::Rejection;

use super::fake::{Puppet, RETRY_AFTER, Server, refusing, talking};

/// Runs `work`, which blocks, with the base address of `server`.
async fn with_base<T: Send + 'static>(
    server: &Server,
    work: impl FnOnce(&str) -> T + Send + 'static,
) -> T {
    let base = format!("http://{}", server.address);
    tokio::task::spawn_blocking(move || work(&base)).await.expect("the work does not panic")
}

#[tokio::test]
async fn chat_streams_the_answer_to_stdout_and_knows_when_it_began() {
    let (gateway, mut puppet) = Puppet::new();
    let server = Server::start(gateway, &["key"]).await;
    let started = Instant::now();
    let talk = with_base(&server, |base| {
        let mut stdout = Vec::new();
        let first = chat::answer(base, Some("key"), "hi", &mut stdout).map_err(|it| it.to_string());
        (first, String::from_utf8(stdout).expect("text"))
    });
    let answer = async {
        let order = puppet.order().await;
        order.say("river 🌊", Some(thalweg_wire::Finish::Length));
    };
    let ((first, said), ()) = tokio::join!(talk, answer);
    assert_eq!(said, "river 🌊\n");
    assert!(first.expect("an answer") >= started);
}

#[tokio::test]
async fn refusals_are_advice() {
    let server = Server::start(talking(), &["key"]).await;
    let advice = with_base(&server, |base| {
        let advice = client::get(base, "/v1/models", None).expect_err("no key");
        advice.to_string().replace(base, "BASE")
    });
    assert_eq!(
        advice.await,
        "Error: `BASE` answers 401: Give a valid API key as `Authorization: Bearer KEY`.\n\
         Hint: Give the server's key with `--api-key`.",
    );
    let gateway = refusing(Rejection::Overloaded { retry_after: RETRY_AFTER });
    let busy = Server::start(gateway, &[]).await;
    let advice = with_base(&busy, |base| {
        let advice = chat::answer(base, None, "hi", &mut Vec::new()).expect_err("no room");
        advice.to_string()
    });
    assert!(advice.await.contains("answers 429"));
}

#[tokio::test]
async fn silent_address_says_how_to_start_a_server() {
    let server = Server::start(talking(), &[]).await;
    let address = server.address;
    // Port 0 is nobody's.
    let nobody = format!("http://{}:0", address.ip());
    let advice = with_base(&server, move |_| client::get(&nobody, "/version", None).map(drop));
    let advice = advice.await.expect_err("nobody listens").to_string();
    assert!(advice.starts_with("Error: cannot reach a server at `http://127.0.0.1:0`"), "{advice}");
    assert!(advice.contains("`thalweg serve`"), "{advice}");
}

#[tokio::test]
async fn status_is_drawn_from_what_the_server_sends() {
    let server = Server::start(talking(), &[]).await;
    let screen = with_base(&server, |base| {
        let status = client::get(base, "/api/v1/status", None).map_err(|it| it.to_string());
        status::render(&status.expect("a status"))
    });
    let screen = screen.await;
    assert!(screen.starts_with("cluster test,") && screen.ends_with("no plan yet\n"), "{screen}");
    assert_eq!(status::render(&json!("nonsense")).lines().last(), Some("no plan yet"));
}
