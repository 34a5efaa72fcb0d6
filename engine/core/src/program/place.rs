//! Where a node comes from: its module, its line of Python.
use super::schema::Node;
use std::fmt;

/// Where a node comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The node's name and its target.
    node: String,
    /// The modules around it, outer ones first, without the model itself.
    pub modules: Vec<Module>,
    /// `modeling_bert.py:120`; empty if the file does not say.
    source: String,
}

/// A call of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its dotted name; a call after the first has `@1` and so on behind it.
    pub name: String,
    /// Its class in Python.
    pub class: String,
}

impl Place {
    pub fn of(node: &Node) -> Self {
        let stack = node.metadata.get("nn_module_stack").map_or("", String::as_str);
        let trace = node.metadata.get("stack_trace").map_or("", String::as_str);
        let target = node.target.strip_prefix("torch.ops.").unwrap_or(&node.target);
        Place {
            node: match &node.name {
                Some(name) => format!("`{name}` ({target})"),
                None => format!("`{target}`"),
            },
            modules: stack.split(';').filter_map(module).collect(),
            source: trace.lines().rev().find_map(line).unwrap_or_default(),
        }
    }

    /// The module that it belongs to; empty for the model itself.
    pub fn module(&self) -> &str {
        self.modules.last().map_or("", |module| &module.name)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.node)?;
        if !self.module().is_empty() {
            write!(f, " of module `{}`", self.module())?;
        }
        if !self.source.is_empty() {
            write!(f, " at {}", self.source)?;
        }
        Ok(())
    }
}

/// One of `key,name,class`: the number of the call stands in the key, `L__self___out@1`.
fn module(entry: &str) -> Option<Module> {
    let mut parts = entry.splitn(3, ',');
    let (key, name, class) = (parts.next()?, parts.next()?, parts.next()?);
    if name.is_empty() {
        return None;
    }
    let call = key.rsplit_once('@').map(|(_, call)| call).filter(|_| !name.contains('@'));
    Some(Module {
        name: call.map_or_else(|| name.to_owned(), |call| format!("{name}@{call}")),
        class: class.to_owned(),
    })
}

/// One of Python's `File "/x/model.py", line 12, in forward`.
fn line(text: &str) -> Option<String> {
    let (file, rest) = text.trim().strip_prefix("File \"")?.split_once("\", line ")?;
    let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let file = file.rsplit(['/', '\\']).next()?;
    // Code that PyTorch made for itself.
    if file.starts_with('<') {
        return None;
    }
    Some(format!("{file}:{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_says_where_it_comes_from() {
        let node = json!({
            "target": "torch.ops.aten.linear.default", "inputs": [], "outputs": [], "name": "linear_2",
            "metadata": {
                "stack_trace": "File \"/a/b.py\", line 9, in forward\n  x = 1\n  File \"/c/linear.py\", line 134, in forward\n    y\n  File \"<eval_with_key>.5\", line 9, in forward",
                "nn_module_stack": "L__self__,,__main__.Net;L__self___out@1,out,torch.nn.Linear",
            },
        });
        let place = Place::of(&serde_json::from_value(node).expect("a node"));
        assert_eq!(
            place.to_string(),
            "`linear_2` (aten.linear.default) of module `out@1` at linear.py:134"
        );
        let bare = json!({ "target": "_operator.mul", "inputs": [], "outputs": [] });
        let place = Place::of(&serde_json::from_value(bare).expect("a node"));
        assert_eq!((place.to_string().as_str(), place.module()), ("`_operator.mul`", ""));
    }
}
