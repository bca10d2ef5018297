#include "patrickstar/core/sim/timeline.h"

namespace patrickstar {

SimLink* Timeline::next() const {
  SimLink* first = nullptr;
  for (SimLink* link : links_) {
    if (link->next_due() && (first == nullptr || *link->next_due() < *first->next_due())) first = link;
  }
  return first;
}

bool Timeline::deliver_next() {
  SimLink* link = next();
  if (link == nullptr) return false;
  clock_.move_to(*link->next_due());
  link->deliver();
  return true;
}

void Timeline::run_until(Nanos time) {
  for (SimLink* link = next(); link != nullptr && *link->next_due() <= time; link = next()) {
    clock_.move_to(*link->next_due());
    link->deliver();
  }
  clock_.move_to(time);
}

}  // namespace patrickstar
