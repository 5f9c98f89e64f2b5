//! The Helm chart: [`objects`] over values that stand for themselves, and each of them replaced by the expression that
//! puts the chart's value there. So the chart has no content of its own.
//!
//! - A text is `⟦key⟧` wherever it comes to lie, also inside other texts.
//! - A number is one that nobody chooses, and is found again by that.
//! - The one list has one element, and its place is known by its shape.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{RenderError, Values, objects, to_yaml};

const OPEN: char = '⟦';
const CLOSE: char = '⟧';
/// Numbers that stand for values, from here on.
const NUMBERS: u32 = 4_000_000_000;
/// The list, and the key of the field that holds it.
const LIST: &str = "webhook.apiServerCidrs";

/// The files of `manifests/chart`, by path.
///
/// # Errors
/// As of [`objects`].
pub fn chart() -> Result<BTreeMap<String, String>, RenderError> {
    let defaults = serde_json::to_value(Values::default())?;
    let version = Values::default().image.tag;
    let mut files = BTreeMap::new();
    let mut file = |path: &str, text: String| files.insert(path.to_owned(), text);
    file(
        "Chart.yaml",
        format!(
            "# Made by WEFT_WRITE_GOLDEN=1 cargo test -p weft-install\napiVersion: v2\nname: weft\ndescription: A service mesh \
             that needs no changes in applications\ntype: application\nversion: {version}\nappVersion: {version:?}\nkubeVersion: \
             '>=1.30.0-0'\n"
        ),
    );
    file("values.yaml", serde_saphyr::to_string(&defaults)?);
    let schema = schemars::schema_for!(Values);
    file(
        "values.schema.json",
        serde_json::to_string_pretty(&open(schema.to_value()))? + "\n",
    );
    let mut groups: BTreeMap<&str, String> = BTreeMap::new();
    let mut placeholders = Placeholders::default();
    let values: Values = serde_json::from_value(placeholders.of("", &defaults))?;
    for mut object in objects(&values)? {
        let name = group(&object);
        placeholders.lift(&mut object);
        let text = placeholders.render(&to_yaml(&[object])?);
        groups.entry(name).or_default().push_str(&text);
    }
    for (name, text) in groups {
        let text = match name {
            "weft" => text,
            "namespace" => conditional("createNamespace", &text),
            "crds" => conditional("crds", &text),
            _ => conditional("networkPolicies", &text),
        };
        file(&format!("templates/{name}.yaml"), text);
    }
    Ok(files)
}

/// Which template an object is in.
fn group(object: &Value) -> &'static str {
    match object["kind"].as_str() {
        Some("Namespace") => "namespace",
        Some("CustomResourceDefinition") => "crds",
        Some("NetworkPolicy") => "network-policies",
        _ => "weft",
    }
}

fn conditional(key: &str, text: &str) -> String {
    format!("{{{{- if .Values.{key} }}}}\n{text}{{{{- end }}}}\n")
}

/// Helm puts `global` into the values of every chart.
fn open(mut schema: Value) -> Value {
    schema["properties"]["global"] = json!({"type": "object"});
    schema
}

/// What stands for values, and the expressions that come in their place.
#[derive(Default)]
struct Placeholders {
    numbers: Vec<String>,
    optional: Vec<String>,
    expressions: Vec<Expression>,
}

struct Expression {
    /// Evaluates to what stands there, as JSON, which is YAML too.
    text: String,
    /// The key of a value without which the whole line goes.
    only_with: Option<String>,
}

impl Placeholders {
    /// Values that stand for themselves, in the shape of the defaults.
    fn of(&mut self, at: &str, default: &Value) -> Value {
        match default {
            Value::Object(map) => {
                let below = |key: &str| {
                    if at.is_empty() {
                        key.to_owned()
                    } else {
                        format!("{at}.{key}")
                    }
                };
                map.iter()
                    .map(|(key, value)| (key.clone(), self.of(&below(key), value)))
                    .collect()
            }
            Value::Bool(_) => true.into(),
            Value::Number(_) => {
                let number = NUMBERS + u32::try_from(self.numbers.len()).unwrap_or_default();
                self.numbers.push(at.to_owned());
                number.into()
            }
            Value::Array(_) => json!([format!("{OPEN}{at}{CLOSE}")]),
            Value::Null | Value::String(_) => {
                if crate::values::is_optional(at) && at != "proxy.log" {
                    self.optional.push(at.to_owned());
                }
                format!("{OPEN}{at}{CLOSE}").into()
            }
        }
    }

    /// Puts a token in the place of everything that depends on a value.
    fn lift(&mut self, value: &mut Value) {
        let list = json!([{"ipBlock": {"cidr": format!("{OPEN}{LIST}{CLOSE}")}}]);
        match value {
            value if *value == list => *value = self.token(String::new(), Some(LIST.to_owned())),
            Value::Object(map) => map.values_mut().for_each(|below| self.lift(below)),
            Value::Array(items) => items.iter_mut().for_each(|below| self.lift(below)),
            Value::Number(number) => {
                let number = number.as_u64().unwrap_or_default();
                let index = number
                    .checked_sub(u64::from(NUMBERS))
                    .and_then(|index| usize::try_from(index).ok());
                if let Some(key) = index.and_then(|index| self.numbers.get(index)) {
                    *value = self.token(format!(".Values.{key} | int"), None);
                }
            }
            Value::String(text) if text.contains(OPEN) => {
                let only_with = self
                    .optional
                    .iter()
                    .find(|key| **text == format!("{OPEN}{key}{CLOSE}"));
                let only_with = only_with.cloned();
                let expression = match text.starts_with('{') {
                    true => format!("{} | toJson", self.of_json(text)),
                    false => format!("{} | toJson", of_text(text)),
                };
                *value = self.token(expression, only_with);
            }
            _ => {}
        }
    }

    fn token(&mut self, text: String, only_with: Option<String>) -> Value {
        self.expressions.push(Expression { text, only_with });
        token(self.expressions.len() - 1).into()
    }

    /// A text that holds JSON: its strings are values of that JSON, and may be null.
    fn of_json(&self, text: &str) -> String {
        let (mut format, mut arguments) = (String::new(), Vec::new());
        // No string in it has an escape: what would need one is a value.
        for (index, part) in text.split('"').enumerate() {
            let is_string = index % 2 == 1;
            match (is_string, part.contains(OPEN)) {
                (true, true) => {
                    let whole = self
                        .optional
                        .iter()
                        .any(|key| part == format!("{OPEN}{key}{CLOSE}"));
                    // An empty text is none.
                    let argument = of_text(part);
                    arguments.push(match whole {
                        true => {
                            format!("(ternary \"null\" (toJson {argument}) (empty {argument}))")
                        }
                        false => format!("({argument} | toJson)"),
                    });
                    format += "%s";
                }
                (true, false) => format += &format!("\"{part}\""),
                (false, _) => format += &part.replace('%', "%%"),
            }
        }
        // As control_plane::environment does it: `$$` is a dollar.
        format!(
            "printf `{format}` {} | replace \"$\" \"$$\"",
            arguments.join(" ")
        )
    }

    /// The YAML with expressions in place of tokens.
    fn render(&self, yaml: &str) -> String {
        let mut out = String::new();
        for line in yaml.split_inclusive('\n') {
            let found = self
                .expressions
                .iter()
                .enumerate()
                .find(|(index, _)| line.trim_end().ends_with(&token(*index)));
            let Some((index, expression)) = found else {
                out.push_str(line);
                continue;
            };
            let indent = &line[..line.len() - line.trim_start().len()];
            let field = line.trim().trim_end_matches(&token(index)).trim_end();
            match &expression.only_with {
                Some(key) if key == LIST => out.push_str(&format!(
                    "{indent}{{{{- with .Values.{key} }}}}\n{indent}{field}\n{indent}{{{{- range . }}}}\n{indent}- ipBlock:\n\
                     {indent}    cidr: {{{{ . | toJson }}}}\n{indent}{{{{- end }}}}\n{indent}{{{{- end }}}}\n"
                )),
                Some(key) => out.push_str(&format!(
                    "{indent}{{{{- if .Values.{key} }}}}\n{indent}{field} {{{{ {} }}}}\n{indent}{{{{- end }}}}\n",
                    expression.text
                )),
                None => out.push_str(&format!("{indent}{field} {{{{ {} }}}}\n", expression.text)),
            }
        }
        out
    }
}

fn token(index: usize) -> String {
    format!("weft-value-{index}-")
}

/// An expression for a text with values in it.
fn of_text(text: &str) -> String {
    let (mut format, mut keys) = (String::new(), Vec::new());
    for (index, part) in text.split([OPEN, CLOSE]).enumerate() {
        if index % 2 == 1 {
            keys.push(format!(".Values.{part}"));
            format += "%s";
        } else {
            format += &part.replace('%', "%%");
        }
    }
    match &keys[..] {
        [key] if format == "%s" => key.clone(),
        keys => format!("(printf `{format}` {})", keys.join(" ")),
    }
}
