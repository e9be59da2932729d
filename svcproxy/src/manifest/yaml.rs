//! One YAML document to a JSON value: merge keys applied, keys turned to text, what JSON cannot say refused with the
//! place and the usual reason.

use serde_json::{Map, Number, Value};
use serde_yaml::Value as Yaml;

use super::{path, position};

/// Why a document could not be read.
pub(crate) struct SyntaxError {
    pub(crate) at: At,
    pub(crate) problem: String,
    pub(crate) advice: String,
}

/// Where a [`SyntaxError`] is.
pub(crate) enum At {
    /// Line and column within the file, from 1.
    Position(usize, usize),
    /// A field of the document, by its path.
    Field(String),
    /// A mapping somewhere in the document that has a key twice.
    DuplicateKey,
}

/// Parses one document, which stands in its file after `lines_before` lines.
pub(crate) fn value(text: &str, lines_before: usize) -> Result<Value, SyntaxError> {
    match parse(text) {
        Ok(yaml) => to_json(yaml, ""),
        Err(error) => {
            // The message itself may name further lines: parsed in its place, it names the file's.
            let in_place = "\n".repeat(lines_before) + text;
            Err(explain(&in_place, &parse(&in_place).err().unwrap_or(error)))
        }
    }
}

fn parse(text: &str) -> Result<Yaml, serde_yaml::Error> {
    let mut yaml: Yaml = serde_yaml::from_str(text)?;
    yaml.apply_merge()?;
    Ok(yaml)
}

/// The parser's message without the position, which stands in front of it anyway, and the usual reason for it.
fn explain(text: &str, error: &serde_yaml::Error) -> SyntaxError {
    let (at, line, problem) = match error.location() {
        Some(at) => {
            let stated = format!(" at line {} column {}", at.line(), at.column());
            let (line, column) = position::of_character(text, at.index());
            (
                At::Position(line, column),
                line,
                error.to_string().replacen(&stated, "", 1),
            )
        }
        None => (At::Field(String::new()), 0, error.to_string()),
    };
    if problem.contains("duplicate entry with key") {
        return SyntaxError {
            at: At::DuplicateKey,
            problem,
            advice: "remove one of the two".to_owned(),
        };
    }
    let shown = line
        .checked_sub(1)
        .and_then(|n| text.lines().nth(n))
        .unwrap_or_default();
    let indentation = shown.len() - shown.trim_start().len();
    let advice = if shown[..indentation].contains('\t') {
        "YAML is indented with spaces: replace the tab at the start of this line"
    } else if shown.contains(" //") {
        "YAML comments start with '#', not '//'"
    } else if problem.contains("mapping values are not allowed") {
        "check the indentation of this line, and quote a value that contains ': '"
    } else {
        ""
    };
    SyntaxError {
        at,
        problem: format!("not valid YAML: {problem}"),
        advice: advice.to_owned(),
    }
}

/// The same value in JSON's terms.
fn to_json(yaml: Yaml, at: &str) -> Result<Value, SyntaxError> {
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => Value::Bool(value),
        Yaml::String(text) => Value::String(text),
        Yaml::Number(number) => Value::Number(number_to_json(&number, at)?),
        Yaml::Sequence(entries) => {
            let entries = entries.into_iter().enumerate();
            let entries = entries.map(|(index, entry)| to_json(entry, &path::index(at, index)));
            Value::Array(entries.collect::<Result<_, _>>()?)
        }
        Yaml::Mapping(fields) => {
            let mut object = Map::new();
            for (key, value) in fields {
                let key = key_to_text(key, at)?;
                let field = path::key(at, &key);
                if object.insert(key, to_json(value, &field)?).is_some() {
                    return Err(refuse(&field, "stands twice in one mapping"));
                }
            }
            Value::Object(object)
        }
        Yaml::Tagged(tagged) => return Err(refuse(at, &format!("the YAML tag {} has no meaning here", tagged.tag))),
    })
}

fn number_to_json(number: &serde_yaml::Number, at: &str) -> Result<Number, SyntaxError> {
    let integer = number
        .as_i64()
        .map(Number::from)
        .or_else(|| number.as_u64().map(Number::from));
    integer
        .or_else(|| number.as_f64().and_then(Number::from_f64))
        .ok_or_else(|| refuse(at, &format!("{number} is not a number that a manifest can hold")))
}

/// Keys are text; `80: x` means `"80": x`, as for kubectl.
fn key_to_text(key: Yaml, at: &str) -> Result<String, SyntaxError> {
    match key {
        Yaml::String(text) => Ok(text),
        Yaml::Bool(value) => Ok(value.to_string()),
        Yaml::Number(number) => Ok(number.to_string()),
        Yaml::Null => Err(refuse(at, "has an empty key")),
        Yaml::Sequence(_) | Yaml::Mapping(_) => Err(refuse(at, "has a list or a mapping as a key")),
        Yaml::Tagged(tagged) => Err(refuse(at, &format!("the YAML tag {} has no meaning here", tagged.tag))),
    }
}

fn refuse(at: &str, problem: &str) -> SyntaxError {
    let field = if at.is_empty() {
        String::new()
    } else {
        format!("{at}: ")
    };
    SyntaxError {
        at: At::Field(at.to_owned()),
        problem: format!("{field}{problem}"),
        advice: String::new(),
    }
}

/// What is wrong with a document that was meant to be JSON and stands after `lines_before` lines.
pub(crate) fn json_error(text: &str, lines_before: usize) -> Option<SyntaxError> {
    let in_place = "\n".repeat(lines_before) + text;
    let error = serde_json::from_str::<serde::de::IgnoredAny>(&in_place).err()?;
    let (line, column) = (error.line(), error.column());
    let problem = error
        .to_string()
        .replacen(&format!(" at line {line} column {column}"), "", 1);
    Some(SyntaxError {
        at: At::Position(line, column),
        problem: format!("not valid JSON: {problem}"),
        advice: String::new(),
    })
}
