//! OpenAI's own Python client against the server.

use thalweg_tests::official;

use super::fake::{Server, talking};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn official_client_understands_every_answer() {
    let server = Server::start(talking(), &["secret"]).await;
    let base = format!("http://{}", server.address);
    let checked =
        tokio::task::spawn_blocking(move || official::check(&base, &["--api-key", "secret"]));
    checked.await.expect("every answer is understood");
}
