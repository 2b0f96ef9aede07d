// Operators against what PaddlePaddle answers (tools/make_op_goldens.py): every case in several
// dtypes, in both layouts, with constant and with run-time parameters, on one thread and on two.
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/parallel.h"
#include "ops/index.h"
#include "ops/norm.h"
#include "ops/op_test.h"
#include "ops/pool.h"
#include "ops/reduce.h"
#include "ops/rnn.h"
#include "ops/shape.h"

namespace trireme::test {
namespace {

using Json = nlohmann::json;
using Ints = std::vector<int64_t>;
using Values = std::vector<Value*>;
using Recorder = std::function<Values(const Values&, const Json&)>;

Pool2dAttrs pool_attrs(const Json& a) {
  return {a.at("type"),
          a.at("kernel").get<Ints>(),
          a.value("strides", Ints{1, 1}),
          a.value("paddings", Ints{0, 0, 0, 0}),
          a.value("ceil_mode", false),
          a.value("exclusive", true),
          a.value("adaptive", false)};
}

InterpAttrs interp_attrs(const Json& a) {
  return {a.at("size").get<Ints>(), a.value("scale", std::vector<double>{}),
          a.value("align_corners", false), a.value("align_mode", int64_t{1})};
}

Values rnn_of(const Values& v, const Json& a) {
  const RnnAttrs attrs{a.at("mode"), a.at("hidden"), a.at("layers"), a.at("bidirectional")};
  return ops::rnn(v[0], v[1], v[2], v[3], {v.begin() + 4, v.end()}, attrs);
}

Ints ints(const Json& a, const char* name) { return a.at(name).get<Ints>(); }

void add_reductions(std::map<std::string, Recorder>& m) {
  for (const Op* op : {&ops::sum_op, &ops::mean_op, &ops::max_op, &ops::min_op, &ops::prod_op,
                       &ops::any_op, &ops::all_op})
    m[std::string(op->name)] = [op](const Values& v, const Json& a) {
      return Values{ops::reduce(*op, v[0], ints(a, "axis"), a.value("keepdim", false))};
    };
}

void add_moves(std::map<std::string, Recorder>& m) {
  m["transpose"] = [](const Values& v, const Json& a) {
    return Values{ops::transpose(v[0], ints(a, "perm"))};
  };
  m["slice"] = [](const Values& v, const Json& a) {
    return Values{
        ops::slice(v[0], ints(a, "axes"), ints(a, "starts"), ints(a, "ends"), ints(a, "strides"))};
  };
  m["split"] = [](const Values& v, const Json& a) {
    return ops::split(v[0], ints(a, "sections"), a.at("axis"));
  };
  m["concat"] = [](const Values& v, const Json& a) { return Values{ops::concat(v, a.at("axis"))}; };
  m["stack"] = [](const Values& v, const Json& a) { return Values{ops::stack(v, a.at("axis"))}; };
  m["expand"] = [](const Values& v, const Json& a) {
    return Values{ops::expand(v[0], ints(a, "shape"))};
  };
  m["tile"] = [](const Values& v, const Json& a) {
    return Values{ops::tile(v[0], ints(a, "shape"))};
  };
  m["pad"] = [](const Values& v, const Json& a) {
    return Values{ops::pad(v[0], ints(a, "paddings"), a.value("mode", "constant"), a.at("value"))};
  };
  m["flip"] = [](const Values& v, const Json& a) {
    return Values{ops::flip(v[0], ints(a, "axes"))};
  };
  m["reshape"] = [](const Values& v, const Json& a) {
    return Values{ops::reshape(v[0], ints(a, "shape"))};
  };
  m["squeeze"] = [](const Values& v, const Json& a) {
    return Values{ops::squeeze(v[0], ints(a, "axes"))};
  };
  m["unsqueeze"] = [](const Values& v, const Json& a) {
    return Values{ops::unsqueeze(v[0], ints(a, "axes"))};
  };
  m["flatten"] = [](const Values& v, const Json& a) {
    return Values{ops::flatten(v[0], a.at("start"), a.at("stop"))};
  };
}

void add_indices(std::map<std::string, Recorder>& m) {
  m["gather"] = [](const Values& v, const Json& a) {
    return Values{ops::gather(v[0], v[1], a.at("axis"))};
  };
  m["gather_nd"] = [](const Values& v, const Json&) { return Values{ops::gather_nd(v[0], v[1])}; };
  m["embedding"] = [](const Values& v, const Json& a) {
    return Values{ops::embedding(v[0], v[1], a.value("padding_idx", int64_t{-1}))};
  };
  m["one_hot"] = [](const Values& v, const Json& a) {
    return Values{ops::one_hot(v[0], a.at("depth"))};
  };
  m["topk"] = [](const Values& v, const Json& a) {
    return ops::topk(v[0], a.at("k"), a.value("axis", int64_t{-1}), a.value("largest", true), true);
  };
  m["argmax"] = [](const Values& v, const Json& a) {
    return Values{ops::argmax(v[0], a.value("axis", int64_t{0}), a.value("keepdim", false),
                              a.value("flatten", false), dtype_from_name(a.value("dtype", "int64")),
                              a.value("min", false))};
  };
  m["cumsum"] = [](const Values& v, const Json& a) {
    return Values{ops::cumsum(v[0], a.value("axis", int64_t{0}), a.value("flatten", false),
                              a.value("exclusive", false), a.value("reverse", false))};
  };
}

std::map<std::string, Recorder> make_recorders() {
  std::map<std::string, Recorder> m;
  m["pool2d"] = [](const Values& v, const Json& a) {
    return Values{ops::pool2d(v[0], pool_attrs(a))};
  };
  m["nearest_interp"] = [](const Values& v, const Json& a) {
    return Values{ops::nearest_interp(v[0], interp_attrs(a))};
  };
  m["bilinear_interp"] = [](const Values& v, const Json& a) {
    return Values{ops::bilinear_interp(v[0], interp_attrs(a))};
  };
  m["batch_norm"] = [](const Values& v, const Json& a) {
    return Values{ops::batch_norm(v[0], v[1], v[2], v[3], v[4], a.at("epsilon"))};
  };
  m["group_norm"] = [](const Values& v, const Json& a) {
    return Values{ops::group_norm(v[0], v[1], v[2], a.at("groups"), a.at("epsilon"))};
  };
  m["instance_norm"] = [](const Values& v, const Json& a) {
    return Values{ops::instance_norm(v[0], v[1], v[2], a.at("epsilon"))};
  };
  m["layer_norm"] = [](const Values& v, const Json& a) {
    return Values{ops::layer_norm(v[0], v[1], v[2], a.at("axis"), a.at("epsilon"))};
  };
  m["softmax"] = [](const Values& v, const Json& a) {
    return Values{ops::softmax(v[0], a.at("axis"))};
  };
  m["log_softmax"] = [](const Values& v, const Json& a) {
    return Values{ops::log_softmax(v[0], a.at("axis"))};
  };
  m["rnn"] = rnn_of;
  add_moves(m);
  add_indices(m);
  add_reductions(m);
  return m;
}

Array input_of(const Json& j, DType floating) {
  if (j.is_null()) return {};
  if (j.contains("ramp")) {
    Array t = ramp(Shape(std::span<const int64_t>(j["ramp"].get<Ints>())), j.at("seed"));
    if (j.contains("positive"))
      for (int64_t i = 0; i < t.numel(); ++i) t.as<float>()[i] = std::abs(t.as<float>()[i]) + 0.5f;
    return t.to(floating);
  }
  const bool logic = j.at("dtype") == "bool";
  Ints values;
  for (const Json& v : j.at("ints")) values.push_back(logic ? v.get<bool>() : v.get<int64_t>());
  const Shape shape(std::span<const int64_t>(j.at("shape").get<Ints>()));
  return Array::from(shape, std::span<const int64_t>(values), DType::kInt64)
      .to(dtype_from_name(j.at("dtype").get<std::string>()));
}

std::vector<double> numbers_of(const Json& data) {
  std::vector<double> v;
  for (const Json& d : data) v.push_back(d.is_boolean() ? d.get<bool>() : d.get<double>());
  return v;
}

void check(const Json& c, DType floating, const RunOptions& options) {
  static const auto recorders = make_recorders();
  const Record record = [&](const Values& v) { return recorders.at(c.at("op"))(v, c.at("attrs")); };
  std::vector<Array> inputs;
  for (const Json& j : c.at("inputs")) inputs.push_back(input_of(j, floating));
  if (options.layout == Layout::kChannelsLast && !follows_layout(record, inputs)) return;
  const std::vector<Array> got = run_ops(record, inputs, options);
  ASSERT_EQ(got.size(), c.at("outputs").size());
  for (size_t k = 0; k < got.size(); ++k) {
    const Json& want = c.at("outputs")[k];
    std::string what = c.at("op").get<std::string>() + c.at("attrs").dump() + " result " +
                       std::to_string(k) + " of ";
    what += std::string(name_of(floating)) + (options.layout == Layout::kPlain ? "" : " nhwc");
    ASSERT_EQ(got[k].shape(), Shape(std::span<const int64_t>(want.at("shape").get<Ints>())))
        << what;
    const DType dtype = dtype_from_name(want.at("dtype").get<std::string>());
    ASSERT_EQ(got[k].dtype(),
              dtype == DType::kFloat32 && c.at("op") != "one_hot" ? floating : dtype)
        << what;
    const double t = is_floating(dtype) ? std::max(tolerance_of(floating), 4e-6) : 0;
    expect_near(got[k], numbers_of(want.at("data")), 3 * t, 3 * t, what);
  }
}

class Golden : public testing::TestWithParam<const char*> {};

TEST_P(Golden, AgreesWithPaddle) {
  std::ifstream file(std::string(TRIREME_SOURCE_DIR "/tests/ops/data/paddle_") + GetParam() +
                     ".json");
  const Json cases = Json::parse(file);
  ASSERT_FALSE(cases.empty());
  for (const Json& c : cases) {
    const bool rnn = c.at("op") == "rnn";  // float32 alone
    for (const DType dtype :
         {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat64}) {
      if (rnn && dtype != DType::kFloat32) continue;
      for (const Layout layout : {Layout::kPlain, Layout::kChannelsLast})
        check(c, dtype, {layout, false});
    }
    check(c, DType::kFloat32, {Layout::kPlain, true});
    if (!rnn) check(c, DType::kBFloat16, {Layout::kChannelsLast, true});
  }
}

INSTANTIATE_TEST_SUITE_P(Ops, Golden,
                         testing::Values("pools", "interps", "norms", "shapes", "indices",
                                         "reductions", "rnns"),
                         [](const auto& part) { return std::string(part.param); });

}  // namespace
}  // namespace trireme::test
