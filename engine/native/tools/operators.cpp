// The processor time of a training step by operator of libtorch, in any program that this library is
// preloaded into: `scripts/operators` does that.
//
// Counts that of the one thread that computes, without the operators within. A step begins with the lookup of
// the tokens' embedding. After SKIP steps it records STEPS of them, and writes $OPERATORS/<program>.tsv:
// phase, operator, calls and milliseconds a step.
#include <ATen/record_function.h>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <string>
#include <vector>

namespace {

constexpr int SKIP = 4, STEPS = 20;

struct Time {
  long calls = 0;
  double seconds = 0;
};
struct Open {
  std::string name;
  double began, within;
  bool backward;
};

thread_local std::vector<Open> open;
thread_local std::map<std::pair<std::string, std::string>, Time> times;
thread_local int steps = 0;
thread_local bool went_back = false;
thread_local double first = 0, covered = 0;
bool done = false;

double now() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

void write(double all) {
  const auto path = std::string(getenv("OPERATORS")) + "/" + program_invocation_short_name + ".tsv";
  FILE *file = fopen(path.c_str(), "w");
  if (!file) {
    perror(path.c_str());
    return;
  }
  for (const auto &[key, time] : times)
    fprintf(file, "%s\t%s\t%.1f\t%.4f\n", key.first.c_str(), key.second.c_str(),
            double(time.calls) / STEPS, time.seconds / STEPS * 1e3);
  fprintf(file, "outside\tno operator\t0\t%.4f\n", (all - covered) / STEPS * 1e3);
  fclose(file);
}

std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction &f) {
  if (done)
    return nullptr;
  const std::string name = f.name();
  // Of the second kind: what adds gradients up.
  const bool back = f.scope() == at::RecordScope::BACKWARD_FUNCTION || name.rfind("autograd::", 0) == 0;
  if (name == "aten::embedding" && open.empty()) {
    if (steps == SKIP)
      first = now(), covered = 0, times.clear();
    if (steps == SKIP + STEPS) {
      write(now() - first);
      done = true;
      return nullptr;
    }
    ++steps;
    went_back = false;
  }
  went_back |= back;
  open.push_back({name, now(), 0, back || (!open.empty() && open.back().backward)});
  return nullptr;
}

void end(const at::RecordFunction &, at::ObserverContext *) {
  if (open.empty())
    return;
  const Open op = open.back();
  open.pop_back();
  const double took = now() - op.began;
  const char *phase = op.backward ? "backward" : went_back ? "update" : "forward";
  auto &time = times[{phase, op.name}];
  ++time.calls;
  time.seconds += took - op.within;
  (open.empty() ? covered : open.back().within) += took;
}

__attribute__((constructor)) void start() {
  if (getenv("OPERATORS"))
    at::addGlobalCallback(at::RecordFunctionCallback(begin, end)
                              .scopes({at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION}));
}

} // namespace
