// Walking the history back: gradients are recorded into the same graph as everything else.
#include "trireme/autograd.h"

#include <algorithm>
#include <map>
#include <unordered_map>

#include "ops/assign.h"
#include "ops/pointwise.h"
#include "ops/shape.h"
#include "passes/gradient.h"
#include "runtime/amp_mode.h"
#include "runtime/call.h"

namespace trireme {
namespace {

thread_local bool enabled = true;

using Tape = std::shared_ptr<TapeNode>;

// The sums that have come to one operator's outputs.
struct Arrived {
  Tape tape;
  std::vector<Tensor> gradients;
};

// Holds tensors, not values: hooks and layers' backward may read numbers, which flushes.
class Walk {
 public:
  Walk(Recorder& recorder, const BackwardOptions& options)
      : recorder_(recorder), options_(options) {}

  void start(const Variable& root, const Tensor& gradient) {
    if (root.tape) arrive(root.tape, root.index, gradient);
  }
  void start_leaf(const std::shared_ptr<Variable>& leaf, const Tensor& gradient) {
    arrive_leaf(leaf, gradient);
  }

  // Watches what comes to a target.
  void watch(const Tensor& target) {
    const Variable& v = *target.variable();
    if (v.tape) watched_[{v.tape.get(), v.index}] = {};
  }
  Tensor seen(const Tensor& target) const {
    const std::shared_ptr<Variable>& v = target.variable();
    if (v->tape) return watched_.at({v->tape.get(), v->index});
    const auto it = leaves_.find(v.get());
    return it == leaves_.end() ? Tensor() : it->second.gradient;
  }

  void run() {
    while (!waiting_.empty()) {
      // The latest operator first: everything that reads its results is later, and done.
      const auto last = std::prev(waiting_.end());
      Arrived at = std::move(last->second);
      waiting_.erase(last);
      visit(at);
    }
    for (Variable* key : order_) finish(leaves_.at(key));
    if (!options_.retain_graph)
      for (const Tape& t : done_) release(*t);
  }

 private:
  struct Leaf {
    std::shared_ptr<Variable> variable;
    Tensor gradient;
  };

  Tensor sum(const Tensor& a, const Tensor& b) {
    if (!a.defined()) return b;
    return recorder_.tensor(ops::add(recorder_.value(a.variable()), recorder_.value(b.variable())));
  }

  void arrive(const Tape& tape, int index, const Tensor& gradient) {
    if (tape->released)
      fail(Code::kInvalidArgument,
           "[backward] the history was let go by an earlier backward(); pass retain_graph = true "
           "to the first one to go over it again",
           tape->where);
    Arrived& a = waiting_[tape->sequence];
    a.tape = tape;
    a.gradients.resize(tape->outputs.size());
    Tensor& total = a.gradients[static_cast<size_t>(index)];
    total = sum(total, gradient);
  }

  void arrive_leaf(const std::shared_ptr<Variable>& leaf, const Tensor& gradient) {
    Leaf& l = leaves_[leaf.get()];
    if (l.variable == nullptr) order_.push_back(leaf.get());
    l.variable = leaf;
    l.gradient = sum(l.gradient, gradient);
  }

  static Tensor hooked(const std::vector<std::function<Tensor(const Tensor&)>>& hooks,
                       Tensor gradient) {
    for (const auto& hook : hooks) {
      const Tensor changed = hook(gradient);
      if (changed.defined()) gradient = changed;
    }
    return gradient;
  }

  void visit(Arrived& at) {
    TapeNode& t = *at.tape;
    for (size_t i = 0; i < at.gradients.size(); ++i) {
      if (!at.gradients[i].defined()) continue;
      if (i < t.hooks.size()) at.gradients[i] = hooked(t.hooks[i], at.gradients[i]);
      if (const auto it = watched_.find({&t, static_cast<int>(i)}); it != watched_.end())
        it->second = at.gradients[i];
    }
    const std::vector<Tensor> back = t.custom ? custom(t, at) : by_rule(at);
    for (size_t i = 0; i < back.size(); ++i) {
      const TapeNode::Input& in = t.inputs[i];
      if (!back[i].defined() || !in.needs_gradient) continue;
      if (in.tape) arrive(in.tape, in.index, back[i]);
      else arrive_leaf(in.leaf, back[i]);
    }
    done_.push_back(at.tape);
  }

  std::vector<Tensor> by_rule(const Arrived& at) {
    TapeNode& t = *at.tape;
    std::vector<Value*> inputs, outputs;
    std::vector<bool> wanted;
    for (const TapeNode::Input& in : t.inputs) {
      inputs.push_back(recorder_.value(in));
      wanted.push_back(in.needs_gradient);
    }
    for (size_t i = 0; i < t.outputs.size(); ++i)
      outputs.push_back(recorder_.output_value(at.tape, i));
    if (!t.where.empty()) set_location(t.where + ", gradient");
    const std::vector<Value*> back = node_gradients(
        {*t.op, inputs, outputs, t.attrs}, detail::in(recorder_, at.gradients), std::move(wanted));
    set_location({});
    return detail::wrap(recorder_, back);
  }

  std::vector<Tensor> custom(const TapeNode& t, const Arrived& at) {
    std::vector<Tensor> came;
    for (size_t i = 0; i < at.gradients.size(); ++i) {
      const Type& type = t.types[i];
      came.push_back(
          at.gradients[i].defined()
              ? at.gradients[i]
              : recorder_.tensor(ops::full({type.shape.begin(), type.shape.end()}, 0, type.dtype)));
    }
    std::vector<Tensor> gave = t.custom(came);
    TRI_CHECK(gave.size() == t.inputs.size(),
              "[backward] expects one gradient an input of the layer (" +
                  std::to_string(t.inputs.size()) + "), got " + std::to_string(gave.size()));
    for (size_t i = 0; i < gave.size(); ++i)
      if (gave[i].defined() && t.inputs[i].slot)
        TRI_CHECK(gave[i].shape() == t.inputs[i].slot->type.shape,
                  "[backward] expects a gradient of shape " + t.inputs[i].slot->type.shape.str() +
                      " for input " + std::to_string(i) + ", got " + gave[i].shape().str());
    return gave;
  }

  void finish(Leaf& leaf) {
    leaf.gradient = hooked(leaf.variable->hooks, leaf.gradient);
    if (!options_.accumulate) return;
    std::shared_ptr<Variable>& grad = leaf.variable->grad;
    grad = grad ? sum(Tensor(grad), leaf.gradient).variable() : leaf.gradient.variable();
  }

  static void release(TapeNode& t) {
    t.released = true;
    t.outputs.clear();
    t.custom = nullptr;
    std::vector<TapeNode::Input> inputs = std::move(t.inputs);
    t.inputs.clear();
  }

  Recorder& recorder_;
  const BackwardOptions options_;
  std::map<uint64_t, Arrived> waiting_;  // by sequence
  std::map<std::pair<const TapeNode*, int>, Tensor> watched_;
  std::unordered_map<Variable*, Leaf> leaves_;
  std::vector<Variable*> order_;
  std::vector<Tape> done_;
};

Tensor incoming(Recorder& recorder, const Tensor& root, const Tensor& gradient) {
  if (gradient.defined()) {
    TRI_CHECK(gradient.shape() == root.shape(), "[backward] expects a gradient of shape " +
                                                    root.shape().str() + ", got " +
                                                    gradient.shape().str());
    return gradient;
  }
  return recorder.tensor(ops::full({root.shape().begin(), root.shape().end()}, 1, root.dtype()));
}

}  // namespace

TapeNode::~TapeNode() {
  // A long chain would be taken down by recursion: it is laid flat first.
  std::vector<Input> left = std::move(inputs);
  while (!left.empty()) {
    Input in = std::move(left.back());
    left.pop_back();
    if (in.tape && in.tape.use_count() == 1)
      for (Input& further : in.tape->inputs) left.push_back(std::move(further));
    if (in.tape && in.tape.use_count() == 1) in.tape->inputs.clear();
  }
}

bool grad_enabled() { return enabled; }
void set_grad_mode(bool on) { enabled = on; }
bool is_grad_enabled() { return enabled; }
set_grad_enabled::set_grad_enabled(bool on) : before_(enabled) { enabled = on; }
set_grad_enabled::~set_grad_enabled() { enabled = before_; }

std::vector<Tensor> run_backward(const std::vector<Tensor>& roots,
                                 const std::vector<Tensor>& gradients,
                                 const std::vector<Tensor>& targets,
                                 const BackwardOptions& options) {
  TRI_CHECK(!roots.empty(), "[backward] expects at least one tensor, got none");
  Recorder& recorder = recorder_for(roots);
  const BuilderScope scope(recorder);
  const set_grad_enabled mode(options.create_graph);
  const AmpScope amp_off(nullptr);  // gradients have the precision of what they belong to
  Walk walk(recorder, options);
  for (const Tensor& t : targets) walk.watch(t);
  for (size_t i = 0; i < roots.size(); ++i) {
    TRI_CHECK(!roots[i].stop_gradient(),
              "[backward] expects a tensor that depends on one with stop_gradient = false");
    const Tensor g = incoming(recorder, roots[i], i < gradients.size() ? gradients[i] : Tensor());
    if (roots[i].variable()->tape) walk.start(*roots[i].variable(), g);
    else walk.start_leaf(roots[i].variable(), g);
  }
  walk.run();
  std::vector<Tensor> result;
  for (const Tensor& t : targets) result.push_back(walk.seen(t));
  if (eager_mode() && !recorder.tracing()) recorder.flush();
  return result;
}

void backward(const std::vector<Tensor>& tensors, const std::vector<Tensor>& gradients,
              bool retain_graph) {
  for (size_t i = 0; i < tensors.size(); ++i)
    TRI_CHECK(
        tensors[i].numel() == 1 || (i < gradients.size() && gradients[i].defined()),
        "[backward] expects a tensor with one element, or the gradient that flows in; got shape " +
            tensors[i].shape().str());
  (void)run_backward(tensors, gradients, {}, {.accumulate = true, .retain_graph = retain_graph});
}

std::vector<Tensor> grad(const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs,
                         const GradOptions& options) {
  std::vector<Tensor> result =
      run_backward(outputs, options.grad_outputs, inputs,
                   {.accumulate = false,
                    .retain_graph = options.retain_graph || options.create_graph,
                    .create_graph = options.create_graph});
  if (!options.allow_unused)
    for (size_t i = 0; i < result.size(); ++i)
      TRI_CHECK(result[i].defined(), "[grad] no output depends on input " + std::to_string(i) +
                                         "; allow_unused = true gives an empty tensor instead");
  return result;
}

void register_hook(const Tensor& tensor, std::function<Tensor(const Tensor&)> f) {
  Variable& v = *tensor.variable();
  TRI_CHECK(!v.stop_gradient, "[register_hook] expects a tensor with stop_gradient = false");
  if (v.tape == nullptr) {
    v.hooks.push_back(std::move(f));
    return;
  }
  auto& hooks = v.tape->hooks;
  hooks.resize(std::max(hooks.size(), static_cast<size_t>(v.index) + 1));
  hooks[static_cast<size_t>(v.index)].push_back(std::move(f));
}

namespace {

// Ties results to inputs by a gradient that is a function.
std::vector<Tensor> with_custom_gradient(const std::vector<Tensor>& inputs,
                                         std::vector<Tensor> results, TapeNode::Custom custom,
                                         const std::string& where, bool always) {
  const bool any = std::any_of(inputs.begin(), inputs.end(),
                               [](const Tensor& t) { return t.defined() && !t.stop_gradient(); });
  if (!(any || always) || !enabled) return results;
  auto tape = std::make_shared<TapeNode>();
  // A sequence number later than everything recorded inside.
  tape->sequence = next_sequence();
  tape->where = where;
  tape->custom = std::move(custom);
  for (const Tensor& t : inputs) {
    TapeNode::Input in;
    if (t.defined()) {
      const Variable& v = *t.variable();
      in.slot = v.slot;
      in.needs_gradient = !v.stop_gradient;
      if (in.needs_gradient) {
        in.tape = v.tape;
        in.index = v.index;
        if (in.tape == nullptr) in.leaf = t.variable();
      }
    }
    tape->inputs.push_back(std::move(in));
  }
  for (size_t i = 0; i < results.size(); ++i) {
    // A result may be an input or something saved: it gets a variable of its own.
    if (results[i].variable()->tape || !results[i].variable()->stop_gradient ||
        results[i].variable().use_count() > 1)
      results[i] = call([](Value* v) { return ops::assign(v); }, results[i]);
    Variable& v = *results[i].variable();
    tape->outputs.push_back(v.slot);
    tape->types.push_back(v.slot->type);
    if (!is_floating(v.slot->type.dtype)) continue;
    v.stop_gradient = false;
    v.tape = tape;
    v.index = static_cast<int>(i);
  }
  return results;
}

}  // namespace

std::vector<Tensor> PyLayer::apply(const std::shared_ptr<PyLayer>& layer,
                                   const std::vector<Tensor>& inputs) {
  std::vector<Tensor> results;
  {
    const no_grad guard;
    results = layer->forward(inputs);
  }
  return with_custom_gradient(
      inputs, std::move(results),
      [layer](const std::vector<Tensor>& g) { return layer->backward(g); }, "a PyLayer", false);
}

std::vector<Tensor> recompute(
    const std::function<std::vector<Tensor>(const std::vector<Tensor>&)>& f,
    const std::vector<Tensor>& inputs) {
  if (!enabled) return f(inputs);
  Recorder& recorder = recorder_for(inputs);
  const int64_t random = recorder.random_count();
  std::vector<Tensor> results;
  {
    const no_grad guard;
    results = f(inputs);
  }
  // Parameters that f reads are leaves of the second run: their gradients are accumulated there,
  // and only the inputs' gradients go on in this walk.
  return with_custom_gradient(
      inputs, std::move(results),
      [f, inputs, random](const std::vector<Tensor>& came) {
        Recorder& r = recorder_for(inputs);
        const int64_t now = r.random_count();
        r.set_next_random(random);
        std::vector<Tensor> again, outputs;
        {
          const enable_grad guard;
          for (const Tensor& t : inputs) {
            // Tied to what flows in: this run must not merge with the first, nor come before it.
            Tensor copy =
                t.defined() && is_floating(t.dtype())
                    ? call([](Value* x, Value* g) { return ops::later(x, g); }, t.detach(), came[0])
                    : t;
            if (t.defined()) copy.set_stop_gradient(t.stop_gradient());
            again.push_back(copy);
          }
          outputs = f(again);
        }
        r.set_next_random(std::max(now, r.random_count()));
        std::vector<Tensor> roots, gradients;
        for (size_t i = 0; i < outputs.size(); ++i)
          if (!outputs[i].stop_gradient()) {
            roots.push_back(outputs[i]);
            gradients.push_back(came[i]);
          }
        (void)run_backward(roots, gradients, {}, {.accumulate = true});
        std::vector<Tensor> back;
        for (size_t i = 0; i < inputs.size(); ++i)
          back.push_back(again[i].defined() && !again[i].stop_gradient() ? again[i].grad()
                                                                         : Tensor());
        return back;
      },
      "recompute", true);
}

}  // namespace trireme
