#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

// c10d's own store derives from it in the header; no object of that class is made here, so only the
// names of the functions matter.
namespace gloo {
namespace rendezvous {
class Store {
public:
  using Bytes = std::vector<char>;
  static constexpr std::chrono::milliseconds kDefaultTimeout = std::chrono::seconds(30);

  virtual ~Store();
  virtual void set(const std::string &key, const Bytes &value) = 0;
  virtual Bytes get(const std::string &key) = 0;
  virtual void wait(const std::vector<std::string> &keys) = 0;
  virtual void wait(const std::vector<std::string> &keys,
                    const std::chrono::milliseconds &timeout) = 0;
  virtual bool has_v2_support();
  virtual std::vector<Bytes> multi_get(const std::vector<std::string> &keys);
  virtual void multi_set(const std::vector<std::string> &keys, const std::vector<Bytes> &values);
  virtual void append(const std::string &key, const Bytes &value);
  virtual int64_t add(const std::string &key, int64_t value);
};
} // namespace rendezvous
} // namespace gloo
