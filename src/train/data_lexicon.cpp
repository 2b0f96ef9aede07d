// Lexicons of lines: templates and words, and the one that comes with the project.
#include "train/data_lexicon.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "train/data_files.h"

namespace trireme::vision::datasets {
namespace {

// Fields of Chinese invoices, and names of common drugs with doses.
constexpr const char* kOwn = R"([lines]
发票代码：{digits:12}
发票号码：{digits:8}
开票日期：{date}
校验码：{digits:5} {digits:5} {digits:5}
机器编号：{digits:12}
购买方名称：{company}
销售方名称：{company}
纳税人识别号：{taxid}
地址、电话：{city}市{road}{number:1:999}号 {digits:8}
开户行及账号：{bank}{city}分行 {digits:16}
货物或应税劳务名称：*{kind}*{goods}
规格型号：{letters:2}-{number:10:999}
单位：{unit} 数量：{number:1:200}
单价：{money} 金额：{money}
税率：{rate} 税额：{money}
价税合计（小写）：{amount}
合计金额：{amount}
收款人：{person} 复核：{person}
开票人：{person}
备注：订单号{letters:2}{digits:10}
{drug}{form} {dose}
{drug}{form}（{number:6:48}{grain}/盒）
药品名称：{drug}{form}
批准文号：国药准字{kindletter}{digits:8}
规格：{dose}×{number:6:48}{grain}
生产日期：{date} 有效期至：{date}
产品批号：{digits:8}
用法用量：口服，一次{number:1:3}{grain}，一日{number:1:4}次
贮藏：密封，在阴凉干燥处保存
生产企业：{city}{maker}药业有限公司
[company]
{city}{trade}有限公司
{city}{trade}股份有限公司
{city}市{trade}商行
[trade]
华信科技
恒通电子
博远贸易
瑞丰食品
天成建材
宏达物流
新业机械
康泰医疗
[city]
北京
上海
广州
深圳
杭州
南京
成都
武汉
西安
苏州
[road]
人民路
中山路
解放大道
建设街
和平西路
长江路
[bank]
中国工商银行
中国建设银行
中国农业银行
招商银行
[kind]
电子产品
办公用品
餐饮服务
建筑材料
运输服务
药品
[goods]
笔记本电脑
打印纸
硒鼓
餐费
水泥
货物运输
显示器
办公椅
[unit]
台
箱
件
吨
盒
次
[rate]
13%
9%
6%
3%
免税
[person]
王芳
李伟
张敏
刘洋
陈静
杨磊
赵丽
周强
[taxid]
91{digits:6}MA{digits:7}{letters:1}
91{digits:15}{letters:1}
[drug]
阿莫西林
头孢克肟
布洛芬
对乙酰氨基酚
奥美拉唑
二甲双胍
阿托伐他汀钙
硝苯地平
氨氯地平
蒙脱石
氯雷他定
左氧氟沙星
阿奇霉素
甲硝唑
辛伐他汀
缬沙坦
格列美脲
维生素C
[form]
片
胶囊
缓释片
分散片
颗粒
肠溶胶囊
口服溶液
[dose]
{dosenumber}mg
0.{number:1:9}g
{number:1:10}ml
[dosenumber]
5
10
20
25
50
100
250
500
[grain]
片
粒
袋
[kindletter]
H
Z
S
[maker]
华康
同济
仁和堂
天士
白云
)";

std::string digits(int64_t n, RandomStream& random) {
  std::string text;
  for (int64_t i = 0; i < n; ++i) text += static_cast<char>('0' + random.below(10));
  return text;
}

std::string letters(int64_t n, RandomStream& random) {
  std::string text;
  for (int64_t i = 0; i < n; ++i) text += static_cast<char>('A' + random.below(26));
  return text;
}

std::string date(RandomStream& random) {
  constexpr const char* kForms[] = {"%04d年%02d月%02d日", "%04d-%02d-%02d", "%04d/%02d/%02d",
                                    "%04d.%02d.%02d"};
  char text[48];
  std::snprintf(text, sizeof text, kForms[random.below(4)],
                static_cast<int>(random.between(2015, 2029)),
                static_cast<int>(random.between(1, 12)), static_cast<int>(random.between(1, 28)));
  return text;
}

// 1,234.56, or without the comma.
std::string money(RandomStream& random) {
  const int64_t most = random.chance(0.5) ? 99'999 : 999'999'99;
  const std::string cents = std::to_string(random.between(100, most));
  std::string whole = cents.substr(0, cents.size() - 2);
  if (random.chance(0.5))
    for (auto at = static_cast<int>(whole.size()) - 3; at > 0; at -= 3)
      whole.insert(static_cast<size_t>(at), ",");
  return whole + "." + cents.substr(cents.size() - 2);
}

// The characters that a field can give, but for sections, which are gone through themselves.
std::string_view drawn_by(std::string_view field) {
  const std::string_view name = field.substr(0, field.find(':'));
  if (name == "digits" || name == "number") return "0123456789";
  if (name == "letters") return "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  if (name == "date") return "0123456789-/.年月日";
  if (name == "money") return "0123456789,.";
  if (name == "amount") return "0123456789,.¥";
  return {};
}

// The numbers behind a field's name: {number:1:300}.
std::vector<int64_t> arguments_of(std::string_view field) {
  std::vector<int64_t> values;
  for (size_t at = field.find(':'); at != std::string_view::npos; at = field.find(':', at + 1)) {
    int64_t value = 0;
    const char* from = field.data() + at + 1;
    const auto [end, error] = std::from_chars(from, field.data() + field.size(), value);
    TRI_CHECK(error == std::errc{} && value >= 0 && value <= 1'000'000'000,
              "[lexicon] expected a number in {" + std::string(field) + "}");
    values.push_back(value);
  }
  return values;
}

}  // namespace

Lexicon::Lexicon(const std::string& path) {
  std::string section;
  const auto use = [&](std::string_view line, int64_t) {
    if (line.starts_with('[') && line.ends_with(']')) section = line.substr(1, line.size() - 2);
    else sections_[section].emplace_back(line);
  };
  if (path.empty()) {
    for (std::string_view rest = kOwn; !rest.empty();) {
      const size_t end = rest.find('\n');
      use(rest.substr(0, end), 0);
      rest.remove_prefix(end + 1);
    }
  } else {
    each_line(path, io::OnError::kRaise, use);
  }
  if (sections_.find("lines") == sections_.end())
    fail(Code::kInvalidArgument, "[lexicon] expected a section [lines]", path);
  // All fields are tried once, so that a fault shows now.
  try {
    RandomStream random;
    for (const auto& [name, texts] : sections_)
      for (const std::string& text : texts) expand(text, random, 0);
  } catch (const Error& e) { throw e.at(path); }
}

std::string Lexicon::draw(RandomStream& random) const {
  const auto& lines = sections_.at("lines");
  return expand(lines[static_cast<size_t>(random.below(static_cast<int64_t>(lines.size())))],
                random, 0);
}

std::string Lexicon::expand(std::string_view text, RandomStream& random, int depth) const {
  TRI_CHECK(depth < 8, "[lexicon] {" + std::string(text) + "} contains itself");
  std::string result;
  while (!text.empty()) {
    const size_t open = std::min(text.find('{'), text.size());
    result += text.substr(0, open);
    text.remove_prefix(open);
    if (text.empty()) break;
    const size_t close = text.find('}');
    TRI_CHECK(close != std::string_view::npos, "[lexicon] a { without } in " + std::string(text));
    result += field(text.substr(1, close - 1), random, depth);
    text.remove_prefix(close + 1);
  }
  return result;
}

std::string Lexicon::field(std::string_view field, RandomStream& random, int depth) const {
  const std::string name(field.substr(0, field.find(':')));
  const std::vector<int64_t> values = arguments_of(field);
  const int64_t first = values.empty() ? 1 : values[0];
  TRI_CHECK((name != "digits" && name != "letters") || first <= 64,
            "[lexicon] {" + std::string(field) + "} is too long");
  if (name == "digits") return digits(first, random);
  if (name == "letters") return letters(first, random);
  if (name == "date") return date(random);
  if (name == "money") return money(random);
  if (name == "amount") return "¥" + money(random);
  if (name == "number") {
    TRI_CHECK(values.size() == 2 && values[0] <= values[1],
              "[lexicon] expected {number:LOW:HIGH}, got {" + std::string(field) + "}");
    return std::to_string(random.between(values[0], values[1]));
  }
  const auto words = sections_.find(name);
  TRI_CHECK(words != sections_.end(), "[lexicon] there is no section [" + name + "]");
  const auto n = static_cast<int64_t>(words->second.size());
  return expand(words->second[static_cast<size_t>(random.below(n))], random, depth + 1);
}

std::string Lexicon::characters() const {
  std::string text;
  for (const auto& [name, lines] : sections_)
    for (const std::string& line : lines) {
      std::string_view rest = line;
      while (!rest.empty()) {
        if (rest[0] == '{') {
          const size_t close = rest.find('}');
          text += drawn_by(rest.substr(1, close - 1));
          rest.remove_prefix(close + 1);
          continue;
        }
        text += rest[0];
        rest.remove_prefix(1);
      }
    }
  return text;
}

}  // namespace trireme::vision::datasets
