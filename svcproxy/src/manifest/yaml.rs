//! One YAML document to a JSON value: merge keys applied, keys turned to text, what JSON cannot say refused.

use serde_json::{Map, Number, Value};
use serde_yaml::Value as Yaml;

/// Why a document could not be read.
pub(crate) struct YamlError {
    /// Line within the file, from 1; 0 when the parser gives none.
    pub(crate) line: usize,
    /// Column, likewise.
    pub(crate) column: usize,
    pub(crate) problem: String,
    pub(crate) advice: String,
}

/// Parses one document, which stands in its file after `lines_before` lines.
pub(crate) fn value(text: &str, lines_before: usize) -> Result<Value, YamlError> {
    match parse(text) {
        Ok(yaml) => to_json(yaml).map_err(|problem| YamlError {
            line: 0,
            column: 0,
            problem,
            advice: String::new(),
        }),
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
fn explain(text: &str, error: &serde_yaml::Error) -> YamlError {
    let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
    let problem = error
        .to_string()
        .replacen(&format!(" at line {line} column {column}"), "", 1);
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
    YamlError {
        line,
        column,
        problem: format!("not valid YAML: {problem}"),
        advice: advice.to_owned(),
    }
}

/// The same value in JSON's terms.
fn to_json(yaml: Yaml) -> Result<Value, String> {
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => Value::Bool(value),
        Yaml::String(text) => Value::String(text),
        Yaml::Number(number) => Value::Number(number_to_json(&number)?),
        Yaml::Sequence(entries) => Value::Array(entries.into_iter().map(to_json).collect::<Result<_, _>>()?),
        Yaml::Mapping(fields) => {
            let mut object = Map::new();
            for (key, value) in fields {
                let key = key_to_text(key)?;
                if object.insert(key.clone(), to_json(value)?).is_some() {
                    return Err(format!("the key {key:?} stands twice in one mapping"));
                }
            }
            Value::Object(object)
        }
        Yaml::Tagged(tagged) => return Err(format!("the YAML tag {} has no meaning in a manifest", tagged.tag)),
    })
}

fn number_to_json(number: &serde_yaml::Number) -> Result<Number, String> {
    let integer = number
        .as_i64()
        .map(Number::from)
        .or_else(|| number.as_u64().map(Number::from));
    integer
        .or_else(|| number.as_f64().and_then(Number::from_f64))
        .ok_or_else(|| format!("{number} is not a number that a manifest can hold"))
}

/// Keys are text; `80: x` means `"80": x`, as for kubectl.
fn key_to_text(key: Yaml) -> Result<String, String> {
    match key {
        Yaml::String(text) => Ok(text),
        Yaml::Bool(value) => Ok(value.to_string()),
        Yaml::Number(number) => Ok(number.to_string()),
        Yaml::Null => Err("a mapping has an empty key".to_owned()),
        Yaml::Sequence(_) | Yaml::Mapping(_) => Err("a mapping has a list or a mapping as its key".to_owned()),
        Yaml::Tagged(tagged) => Err(format!("the YAML tag {} has no meaning in a manifest", tagged.tag)),
    }
}
