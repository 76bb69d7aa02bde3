// The opening of TVM's RPC protocol, server side: int32 magic, int32 length, key "client:<key>[ -timeout=<seconds>]";
// answered by int32 magic (or a refusal code), int32 length, "server:<key>".
#pragma once

#include <string>

namespace tapdot {

enum class Verdict { kAccepted, kSilent };  // kSilent: refused or not an RPC client; the connection is to be closed

struct Greeting {
  Verdict verdict = Verdict::kSilent;
  unsigned timeout_seconds = 0;  // what the client asked for; 0: nothing
};

// Reads and checks the client's greeting within `seconds` in total and answers a refusal itself. On kAccepted the caller
// answers, by Accept or Refuse below, because only it knows whether a session is free.
Greeting ReceiveGreeting(int connection, const std::string& key, double seconds);

void Accept(int connection, const std::string& key);
void RefuseBusy(int connection);

// Waits until the client says its first word; false when it left instead (a check of the key, not a session).
bool AwaitFirstRequest(int connection);

}  // namespace tapdot
