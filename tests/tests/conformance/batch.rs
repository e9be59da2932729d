//! `--batch` as a tool: a line for each question, whatever is in between.

use crate::given::{exposed, here_and_there, scene};

#[test]
fn a_bad_line_is_named_and_the_others_are_answered() {
    let web = scene([exposed("web", 10, ""), here_and_there("web")]);
    let (status, answers) = web.batch(
        "# kube-proxy's table\n\n10.1.0.9 10.96.0.10:80/tcp   # a comment\n10.1.0.9 10.96.0.10\n   \n\
         [fd00:1::9] [fd00:10:96::10]:80/TCP\nfd00:1::9:1 10.96.0.10:80/tcp\n10.1.0.9:7 10.96.0.10:80",
    );
    assert_eq!(status.code(), Some(1));
    let found: Vec<_> = answers
        .iter()
        .map(|answer| match answer["error"].as_str() {
            Some(error) => error.split(':').next().unwrap().to_owned(),
            None => answer["verdict"].as_str().unwrap().to_owned(),
        })
        .collect();
    assert_eq!(found, ["forward", "line 4", "forward", "line 7", "forward"]);
}

#[test]
fn an_answer_names_the_service_and_sorts_by_number() {
    let web = scene([
        exposed("web", 10, ""),
        crate::given::slice("web", &["10.1.0.10", "10.1.0.9", "10.1.0.100"]),
    ]);
    let asked = [
        "10.1.0.1 10.96.0.10:80/tcp",
        "10.1.0.1 10.96.0.10:81/tcp",
        "10.1.0.1 10.96.0.11:80/tcp",
    ];
    let answers = web.explain(&asked.map(str::to_owned));
    assert_eq!(answers[0]["service"], "default/web:80");
    assert_eq!(
        answers[0]["backends"],
        serde_json::json!(["10.1.0.9:8080", "10.1.0.10:8080", "10.1.0.100:8080"])
    );
    assert_eq!(answers[1]["service"], "default/web");
    assert!(answers[2]["service"].is_null());
    assert!(answers[2]["chosen"].is_null());
}

#[test]
fn refusals_stay_refusals_when_the_answers_of_a_second_are_used_up() {
    let none = scene([exposed("none", 10, "")]);
    let questions: Vec<_> = (0..4000)
        .map(|n| format!("10.1.0.9:{} 10.96.0.10:80/tcp", 1025 + n))
        .collect();
    for answer in none.explain(&questions) {
        assert_eq!(answer["verdict"], "reject", "{answer}");
    }
}

#[test]
fn thousands_take_seconds() {
    let web = scene([exposed("web", 10, ""), here_and_there("web")]);
    let questions: Vec<_> = (0..10_000)
        .map(|n| format!("10.1.{}.{} 10.96.0.10:80/tcp", n / 250, n % 250))
        .collect();
    let start = std::time::Instant::now();
    web.explain(&questions);
    let taken = start.elapsed();
    assert!(taken.as_secs() < 20, "10 000 questions took {taken:?}");
}
