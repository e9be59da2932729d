//! No input makes the loader panic, and what it says always points into the text.

use proptest::prelude::*;
use svcproxy::{input, manifest, state::State};

use crate::given::{files, lines, options, source};

/// What holds for any text at all.
fn judge(text: &str) {
    let input = input::join(manifest::parse(&[source(text)]), &options(), &State::default());
    assert_eq!(
        input.model.is_none(),
        input.errors().next().is_some(),
        "{text:?}\n{}",
        lines(&input)
    );
    let rows: Vec<&str> = text.split('\n').collect();
    for diagnostic in &input.diagnostics {
        let Some(place) = &diagnostic.place else { continue };
        assert!((1..=rows.len()).contains(&place.line), "{text:?}\n{diagnostic}");
        assert!(place.column >= 1 && place.document >= 1, "{text:?}\n{diagnostic}");
        assert!(
            !diagnostic.to_string().contains('\n'),
            "one line each: {text:?}\n{diagnostic}"
        );
    }
}

#[test]
fn the_corpus_of_the_fuzzer_and_every_input_of_these_tests() {
    for directory in ["fuzz/corpus/load", "tests/manifests/inputs", "../manifests/examples"] {
        for (_, text) in files(directory) {
            judge(&text);
        }
    }
}

#[test]
fn texts_made_to_hurt() {
    let deep = |open: &str, count: usize| open.repeat(count);
    for text in [
        deep("[", 10_000),
        deep("{a: ", 10_000),
        deep("- ", 10_000),
        deep("{\"a\":", 10_000),
        deep("---\n", 10_000),
        format!("a: &a [x]\n{}", (0..64).map(|n| format!("k{n}: &b{n} [*a, *a]\n")).collect::<String>()),
        "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
         d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
         g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n"
            .to_owned(),
        "&a a: *a".to_owned(),
        "<<: 5".to_owned(),
        "<<: [[]]".to_owned(),
        "kind: List\nitems: [[[]], {kind: List, items: [{kind: List}]}]".to_owned(),
        "{kind: \"Service\\nx\", apiVersion: \"v1\\nx\", metadata: {name: \"a\\nb\", \"c\\nd\": 1, labels: {\"e\\nf\": 2}}}".to_owned(),
        "\u{feff}kind: Service".to_owned(),
        "a\0b".to_owned(),
        "kind: Pod\rspec: x\r\n---\r\nkind: Service\r\n".to_owned(),
        "? [a]\n: b\n".to_owned(),
        "%YAML 1.2\n---\nkind: Pod\n...\n%TAG ! x\n".to_owned(),
        "--- |\n kind: Pod\n--- >-\n x\n---\t\n--- # c\n".to_owned(),
        "{}{}{".to_owned(),
        "{} null 5 \"x\"".to_owned(),
    ] {
        judge(&text);
    }
}

/// Words that mean something to a loader.
const WORDS: &[&str] = &[
    "---\n",
    "...\n",
    "null",
    "~",
    "{",
    "}",
    "[",
    "]",
    "- ",
    ": ",
    "// ",
    "# ",
    "\"",
    "'",
    "\t",
    "\n",
    "\r\n",
    "\\",
    "&a ",
    "*a",
    "<<: ",
    "!t ",
    "|\n",
    ">\n",
    "? ",
    "%",
    "@",
    "-1",
    "0",
    "65536",
    "1e400",
    ".nan",
    "99999999999999999999",
    "true",
    "None",
    "IPv6",
    "10.0.0.1",
    "fd00::1",
    "::ffff:1.2.3.4",
    "TCP",
    "Service",
    "Pod",
    "List",
    "v1",
    "items: ",
    "kind: ",
    "’",
    "\u{0}",
    "\u{feff}",
    "\u{2028}",
];

/// One change to a text.
#[derive(Debug, Clone)]
enum Edit {
    Cut(usize, usize),
    Insert(usize, usize),
    RepeatLine(usize),
    DropLine(usize),
    Indent(usize, usize),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let at = 0..4096_usize;
    let edit = prop_oneof![
        (at.clone(), 0..40_usize).prop_map(|(at, length)| Edit::Cut(at, length)),
        (at.clone(), 0..WORDS.len()).prop_map(|(at, word)| Edit::Insert(at, word)),
        at.clone().prop_map(Edit::RepeatLine),
        at.clone().prop_map(Edit::DropLine),
        (at, 0..9_usize).prop_map(|(at, spaces)| Edit::Indent(at, spaces)),
    ];
    proptest::collection::vec(edit, 1..8)
}

fn apply(text: String, edit: &Edit) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    let mut rows: Vec<String> = text.split('\n').map(str::to_owned).collect();
    match *edit {
        Edit::Cut(at, length) => {
            let start = at % (characters.len() + 1);
            characters.drain(start..(start + length).min(characters.len()));
            return characters.into_iter().collect();
        }
        Edit::Insert(at, word) => {
            let start = at % (characters.len() + 1);
            characters.splice(start..start, WORDS[word].chars());
            return characters.into_iter().collect();
        }
        Edit::RepeatLine(at) => {
            let at = at % rows.len();
            rows.insert(at, rows[at].clone());
        }
        Edit::DropLine(at) => {
            rows.remove(at % rows.len());
        }
        Edit::Indent(at, spaces) => {
            let at = at % rows.len();
            rows[at] = format!("{}{}", " ".repeat(spaces), rows[at].trim_start());
        }
    }
    rows.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn manifests_with_a_few_mistakes(file in 0..1000_usize, edits in edits()) {
        let texts: Vec<String> = ["tests/manifests/inputs", "../manifests/examples"]
            .into_iter()
            .flat_map(files)
            .map(|(_, text)| text)
            .collect();
        judge(&edits.iter().fold(texts[file % texts.len()].clone(), apply));
    }

    #[test]
    fn words_in_any_order(words in proptest::collection::vec(0..WORDS.len(), 0..40)) {
        judge(&words.into_iter().map(|word| WORDS[word]).collect::<String>());
    }
}
