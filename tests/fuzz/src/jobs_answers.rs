//! Responses of Ray's Jobs API or of another server at its address: they are parsed or rejected with a
//! message, regardless of the pieces in which they arrive.
//!
//! The first three bytes select the status and the two cuts; the rest is the body.

use dagster_ray_jobs::{JobsClient, RayJobs, Submission};
use dagster_ray_sdk::Error;
use dagster_ray_sdk::retry::Policy;
use dagster_ray_sdk::testing::{ScriptedHttp, ScriptedResponse, VirtualClock};

const STATUSES: [u16; 14] = [200, 201, 204, 301, 307, 400, 401, 403, 404, 409, 429, 500, 502, 503];
const ID: &str = "dagster-run-r";
/// The longest error text in bytes. Error texts go into Dagster's event log.
const LONGEST_TEXT: usize = 4_096;

/// Checks the properties for one input. Panics if one is violated.
pub fn check(data: &[u8]) {
    let [status, first, second, body @ ..] = data else { return };
    let status = STATUSES[usize::from(*status) % STATUSES.len()];
    let whole = vec![body.to_vec()];
    let mut cuts = [usize::from(*first).min(body.len()), usize::from(*second).min(body.len())];
    cuts.sort_unstable();
    let pieces: Vec<Vec<u8>> = [&body[..cuts[0]], &body[cuts[0]..cuts[1]], &body[cuts[1]..]]
        .iter()
        .map(|piece| piece.to_vec())
        .collect();
    let (one, other) = (answers(status, &whole), answers(status, &pieces));
    assert_eq!(one, other, "the result depends on the pieces");

    let says_missing = String::from_utf8_lossy(body).trim() == format!("Job {ID} does not exist");
    for answer in &one {
        match answer {
            Ok(answer) => assert!((200..300).contains(&status), "{status}: {answer}"),
            Err(Error::NotFound(_)) => assert!(status == 404 && says_missing),
            Err(Error::Unavailable(hint)) => {
                assert!(status == 429 || status >= 500, "{status}");
                assert!(status != 429 || !hint.maybe_applied, "a 429 is never applied");
            }
            Err(Error::Backend(api)) if api.status == 0 => assert!((200..300).contains(&status)),
            // Ray's head reports a 4xx of its agent as a 500.
            Err(Error::Backend(api)) => {
                assert!(api.status == status || (status == 500 && (400..500).contains(&api.status)));
            }
            Err(other) => panic!("{other:?}"),
        }
        if let Err(error) = answer {
            let text = error.message();
            assert!(!text.is_empty() && text.len() <= LONGEST_TEXT, "{} bytes: {text}", text.len());
        }
    }
}

/// Makes each request of the client against a server with a fixed response. Returns the results as text.
fn answers(status: u16, chunks: &[Vec<u8>]) -> Vec<Result<String, Error>> {
    let chunks = chunks.to_vec();
    let http =
        ScriptedHttp::with_rule(move |_| Some(ScriptedResponse::Complete { status, chunks: chunks.clone() }));
    let client = JobsClient::new("http://head:8265", http, VirtualClock::default())
        .expect("an address")
        .with_retry(Policy::ONCE);
    let submission = Submission { submission_id: ID.to_owned(), ..Submission::default() };
    let ids = [ID.to_owned()];
    let mut answers = vec![
        shown(client.version()),
        shown(client.get(ID)),
        shown(client.list()),
        shown(client.submit(&submission)),
        shown(client.delete(ID)),
        shown(client.logs(ID)),
    ];
    answers.extend(client.get_many(&ids).into_iter().map(shown));
    answers.extend(client.stop_many(&ids).into_iter().map(shown));
    if let Ok(jobs) = client.list() {
        for job in jobs {
            assert!(!(job.is_alive() && job.has_ended()));
        }
    }
    answers
}

fn shown<T: std::fmt::Debug>(answer: Result<T, Error>) -> Result<String, Error> {
    answer.map(|answer| format!("{answer:?}"))
}
