// Translations of control flow, recurrent networks, and operators that only hand their input on.
#include <algorithm>

#include "formats/context.h"
#include "ops/control.h"
#include "ops/pointwise.h"
#include "ops/rnn.h"
#include "ops/shape.h"

namespace trireme {
namespace {

// Without side effects, these are nothing.
void hand_on(Context& c) { c.out("Out", c.in("X")); }

Value* condition_of(const Context& c, std::string_view slot) {
  Value* condition = ops::cast(c.in(slot), DType::kBool);
  if (condition->type.shape.numel() != 1) c.damaged("the condition has " + condition->type.str());
  return condition->type.shape.rank() == 0 ? condition : ops::reshape(condition, {});
}

std::vector<Value*> values_of(ProgramRecording& recording, const std::vector<int>& ids) {
  std::vector<Value*> values;
  for (int id : ids) values.push_back(recording.get(id));
  return values;
}

void if_else(Context& c) {
  ProgramRecording& recording = c.recording();
  Value* condition = condition_of(c, "Cond");
  const std::vector<ForeignBlock>& blocks = c.op().blocks;
  if (const Array* known = constant_of(condition)) {
    const ForeignBlock& chosen = blocks[*known->as<uint8_t>() != 0 ? 0 : 1];
    recording.run(chosen);
    if (!chosen.results.empty()) c.out(values_of(recording, chosen.results));
    return;
  }
  const std::vector<int> captured = recording.captured(blocks);
  const auto results = ops::if_else(condition, values_of(recording, captured),
                                    recording.record_block(blocks[0], {}, captured),
                                    recording.record_block(blocks[1], {}, captured));
  if (!results.empty()) c.out(results);
}

// A legacy program's: what its branches give may differ where one of them holds a placeholder. Then
// both run.
void conditional(Context& c) {
  ProgramRecording& recording = c.recording();
  Value* condition = condition_of(c, "Cond");
  if (constant_of(condition) != nullptr) return if_else(c);
  const std::vector<ForeignBlock>& blocks = c.op().blocks;
  const std::vector<int> captured = recording.captured(blocks);
  const auto yes = recording.record_block(blocks[0], {}, captured),
             no = recording.record_block(blocks[1], {}, captured);
  const auto same = [](const Value* a, const Value* b) { return a->type == b->type; };
  if (std::ranges::equal(yes->outputs, no->outputs, same)) {
    c.out(ops::if_else(condition, values_of(recording, captured), yes, no));
    return;
  }
  for (const ForeignBlock& block : blocks) recording.run(block);
  std::vector<Value*> results;
  for (size_t i = 0; i < blocks[0].results.size(); ++i) {
    Value *a = recording.get(blocks[0].results[i]), *b = recording.get(blocks[1].results[i]);
    results.push_back(a == b ? a : ops::where(condition, a, b));
  }
  c.out(results);
}

std::shared_ptr<Graph> loop_body(ProgramRecording& recording, const ForeignBlock& block,
                                 const std::vector<Value*>& variables,
                                 const std::vector<int>& captured) {
  std::vector<Type> types;
  for (const Value* variable : variables) types.push_back(variable->type);
  auto body = recording.record_block(block, types, captured);
  const BuilderScope scope(*body);
  Value*& next = body->outputs[0];
  next = ops::cast(next, DType::kBool);
  if (next->type.shape.rank() > 0) next = ops::reshape(next, {});
  return body;
}

// A variable that every step makes anew, such as an inner loop's counter, comes with a placeholder
// of any type: it gets zeros of the type that the body gives. True when there was one.
bool retype_placeholders(const Graph& body, std::vector<Value*>& variables) {
  const auto uses = body.count_uses();
  bool changed = false;
  for (size_t i = 0; i < variables.size(); ++i) {
    const Type& next = body.outputs[i + 1]->type;
    if (variables[i]->type == next || uses.contains(body.inputs[i])) continue;
    const std::vector<int64_t> dims(next.shape.begin(), next.shape.end());
    variables[i] = ops::full(dims, 0, next.dtype);
    changed = true;
  }
  return changed;
}

void while_loop(Context& c) {
  ProgramRecording& recording = c.recording();
  Value* condition = condition_of(c, "Condition");
  std::vector<Value*> variables = c.all("X");
  for (const Value* variable : variables) {
    if (variable == nullptr) c.damaged("a loop variable is absent");
  }
  const ForeignBlock& block = c.op().blocks[0];
  const std::vector<int> captured = recording.captured({&block, 1});
  auto body = loop_body(recording, block, variables, captured);
  if (retype_placeholders(*body, variables)) {
    body = loop_body(recording, block, variables, captured);
  }
  const auto results = ops::while_loop(condition, variables, values_of(recording, captured), body);
  if (!results.empty()) c.out("Out", results);
}

// The last step of the legacy format's cond(): X[mask].
void select_input(Context& c) {
  const std::vector<Value*> xs = c.all("X");
  Value* mask = c.in("Mask");
  if (xs.size() != 2 || xs[0] == nullptr || xs[1] == nullptr)
    c.refuse("only two inputs are supported");
  if (xs[0] == xs[1]) {
    c.out(xs[0]);
    return;
  }
  if (const Array* known = constant_of(mask)) {
    c.out(numbers_of(*known)[0] != 0 ? xs[1] : xs[0]);
    return;
  }
  if (xs[0]->type != xs[1]->type) {
    c.refuse("the branches differ: " + xs[0]->type.str() + " and " + xs[1]->type.str());
  }
  mask = ops::cast(mask, DType::kBool);
  if (mask->type.shape.rank() > 0) mask = ops::reshape(mask, {});
  c.out(ops::where(mask, xs[1], xs[0]));
}

void rnn(Context& c) {
  RnnAttrs attrs;
  attrs.mode = c.text("mode", "RNN_TANH");
  attrs.hidden_size = c.integer("hidden_size", 0);
  attrs.num_layers = c.integer("num_layers", 1);
  attrs.is_bidirec = c.flag("is_bidirec", false);
  const std::vector<Value*> states = c.all("PreState");
  const bool lstm = attrs.mode == "LSTM";
  if (states.size() != (lstm ? 2u : 1u)) {
    c.damaged(std::to_string(states.size()) + " initial states for " + attrs.mode);
  }
  if (attrs.num_layers < 1 || attrs.num_layers > 1024 || attrs.hidden_size < 1) {
    c.damaged("num_layers or hidden_size is out of range");
  }
  const auto results = ops::rnn(c.in("Input"), states[0], lstm ? states[1] : nullptr,
                                c.maybe("SequenceLength"), c.all("WeightList"), attrs);
  c.out("Out", results[0]);
  if (lstm) {
    c.out("State", {results[1], results[2]});
  } else {
    c.out("State", results[1]);
  }
}

constexpr Translation kTable[] = {
    {"assign", hand_on},
    {"share_data", hand_on},
    {"memcpy", hand_on},
    {"memcpy_h2d", hand_on},
    {"memcpy_d2h", hand_on},
    {"print", hand_on},
    {"depend", hand_on},
    {"if", if_else},
    {"conditional_block", conditional},
    {"while", while_loop},
    {"select_input", select_input},
    {"rnn", rnn},
};

}  // namespace

std::span<const Translation> control_translations() { return kTable; }

}  // namespace trireme
